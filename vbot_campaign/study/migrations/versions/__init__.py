"""One file for each version of our tables. What was released is never changed."""
