"""The splittable DoFn: a thin Beam shell round `reading`."""
