"""One program for each foreign reader; they import nothing of Triad."""
