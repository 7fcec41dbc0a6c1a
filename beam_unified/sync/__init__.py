"""Synchronised sources: what keeps the topics of one job together. No Beam in it.

`options` is what users say, `reports` what readers tell each other, `reduction` what every worker makes of it, `policy` and
`rates` what follows for one reader, `coordinator` how reports travel, `synchronizer` all of it behind one call.
"""
