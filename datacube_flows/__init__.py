"""DataCube: moves data between a PersistentVolumeClaim and Git, Hugging Face or S3.

Import from the sub-packages; this module holds only the version, so that starting one verb stays cheap.
"""

__version__ = "0.1.0"
