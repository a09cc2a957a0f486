"""`Predicted`: predictions by name, and as a frame."""

from typing import Any

import numpy as np

__all__ = ["Predicted"]


class Predicted(dict[str, np.ndarray]):
    """Named arrays, one entry per row: a dict, which `to_arrow` and `to_pandas` make a frame of.

    >>> found = Predicted(score=np.array([0.5, 0.25]), projection=np.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> found.to_arrow().to_pydict()
    {'score': [0.5, 0.25], 'projection': [[1.0, 2.0], [3.0, 4.0]]}
    """

    def columns(self) -> dict[str, Any]:
        """Return an Arrow array per name; arrays per row are lists of a fixed size."""
        import pyarrow as pa  # for those alone who ask for a frame

        columns: dict[str, Any] = {}
        for name, values in self.items():
            flat = pa.array(np.ascontiguousarray(values).reshape(-1))
            wide = int(np.prod(values.shape[1:]))
            columns[name] = flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, wide)
        return columns

    def to_arrow(self) -> Any:
        """Return a `pyarrow.Table` of the columns."""
        import pyarrow as pa

        return pa.table(self.columns())

    def to_pandas(self, index: Any = None) -> Any:
        """Return a `pandas.DataFrame` (pandas must be installed): a column per name.

        Args:
            index: of the rows that were predicted, such as ``frame.index``; None: their numbers.
        """
        frame = self.to_arrow().to_pandas()
        return frame if index is None else frame.set_index(index)
