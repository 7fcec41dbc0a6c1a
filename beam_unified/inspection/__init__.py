"""What operators ask of a log: where its parts are, what a read would cost, whether the archive is whole. No Beam."""
