"""Pages for people: the evaluation of a model as one HTML file."""
