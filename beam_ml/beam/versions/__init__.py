"""Lineage of versions: what one holds, who may publish it, and what training resumes from."""
