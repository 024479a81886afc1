"""When one machine is not enough: more reads, more data, more safety. `scripts/scale.py` runs them."""
