"""Letters, digits and scribbles that the program draws itself, so that no collected examples or labels are needed."""
