"""The DataCube API: models of the document and of its status. Nothing here may do I/O or know an engine."""
