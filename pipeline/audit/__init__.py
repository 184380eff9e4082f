"""Checks of a finished data set, by one module for each part of it; replay, trace and the report."""
