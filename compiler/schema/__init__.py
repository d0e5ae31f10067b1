"""The shape of the two files, as pydantic models. Nothing outside this package and ``validate`` knows pydantic."""
