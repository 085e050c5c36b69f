"""Letters, digits and scribbles that the program draws itself: examples without end, and no label of anybody's."""
