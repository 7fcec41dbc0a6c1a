"""JSON that is checked against a JSON Schema. Needs `pip install beam-unified[json-schema]`.

Validation costs far more than parsing: where a type says the same, `Json(type)` is the faster check.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema
import msgspec
from jsonschema.validators import validator_for

from beam_unified.decoding.decoder import Decode, each_value
from beam_unified.errors import ConfigError


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """JSON values that obey a schema, as dicts or what the schema allows.

    Args:
        schema: As JSON text or parsed; the draft is what its `$schema` says, else the newest. References to other
            documents are not fetched.

    Raises:
        ConfigError: a schema that is none.
    """

    schema: str | Mapping[str, Any]
    element_type = Any

    def __post_init__(self) -> None:
        try:
            parsed = json.loads(self.schema) if isinstance(self.schema, str) else self.schema
            validator_for(parsed).check_schema(parsed)
        except (ValueError, jsonschema.SchemaError) as error:
            raise ConfigError(f"not a JSON Schema ({type(error).__name__}: {str(error).splitlines()[0]}).") from error
        object.__setattr__(self, "schema", json.dumps(parsed))

    def open(self) -> Decode:
        """See `Decoder`."""
        schema = json.loads(str(self.schema))
        validate, parse = validator_for(schema)(schema).validate, msgspec.json.Decoder().decode

        def decode(value: bytes) -> Any:
            found = parse(value)
            validate(found)
            return found

        return each_value(decode)
