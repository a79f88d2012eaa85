"""What a training or a certification will cost, from a minute of measurement."""
