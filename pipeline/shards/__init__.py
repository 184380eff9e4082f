"""Parquet in and out: finding and reading shards, image codecs, the commit protocol, object stores."""
