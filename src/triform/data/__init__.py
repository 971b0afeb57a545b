"""Records of files, one after another, however large the files are."""
