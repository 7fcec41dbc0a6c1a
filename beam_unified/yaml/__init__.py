"""Beam YAML: the transforms of this package as providers, `providers.yaml` (docs/yaml.md)."""
