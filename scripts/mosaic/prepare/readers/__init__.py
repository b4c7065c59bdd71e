"""Users' files by technology, a room for each: what a file holds; `read` checks it."""
