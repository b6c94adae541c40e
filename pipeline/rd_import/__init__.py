"""rd-import: bulk import of events into RD Station Marketing, every row accounted for, none sent twice."""
