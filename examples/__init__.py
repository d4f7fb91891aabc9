"""Small programs to read and to start from; each is run by a test."""
