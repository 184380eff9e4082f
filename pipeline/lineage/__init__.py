"""Where every image came from: records, verification, replay, and the files that tell others."""
