"""What exists: the tracks of the library, read from what people have, kept as they typed it."""
