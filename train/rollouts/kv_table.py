"""The cache of the running batch: a table in which a row joins or leaves at any token.

All rows end at the same column, the one that is filled next, and what a row holds is contiguous:

    row 0   . . . . a b c |
    row 1   . . d e f g h |
    row 2   . . . . . . i |

So a token adds one column for all, a mask by columns hides what is no token of a row, and columns
are as far apart as tokens, which sliding windows count. One that joins is put behind the last row;
the last row moves to where one leaves: no row that ended is computed. What is computed for a row
that joins is written where it stays. The tables of all layers are copied only when columns or rows
run out.

Layers other than attention hold a state per row: they have nothing to hide, so they are joined and
parted along rows, after their prompts were read one by one.

Shapes: R rows, B rows of one forward pass, H heads, P columns, T tokens, D features of a head.

Tests: tests/train/rollouts/test_running_batch.py, tests/train/rollouts/test_engine.py.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, LinearAttentionLayer

from envs.records import Ids
from train.models.cache_layers import ATTENTION, MIXED
from train.rollouts.kv_cache import Pair, Prefix

_LEAST_ROOM = 64  # columns beyond those in use when the tables are made anew
_STATES = ("conv_states", "recurrent_states")  # of a `LinearAttentionLayer`: tensors by number
_MARKS = (
    "is_conv_states_initialized",
    "is_recurrent_states_initialized",
    "has_previous_state",
    "conv_kernel_size",
    "device",
    "dtype",
)


class TableLayer(DynamicLayer):
    """Keys and values of all rows, of which one forward pass sees a part."""

    def __init__(self) -> None:
        super().__init__()
        self._room = (0, 0)
        self._keys_RHPD: torch.Tensor | None = None
        self._values_RHPD: torch.Tensor | None = None
        self._rows, self._columns = slice(0, 0), slice(0, 0)

    def look_at(self, rows: slice, columns: slice) -> None:
        """Show the past of the next forward pass; what it adds goes behind `columns`."""
        self._rows, self._columns = rows, columns
        if self._keys_RHPD is not None and self._values_RHPD is not None:
            self.keys = self._keys_RHPD[rows, :, columns]
            self.values = self._values_RHPD[rows, :, columns]

    def get_seq_length(self) -> int:
        """Return the number of columns in view."""
        return self._columns.stop - self._columns.start

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> Pair:
        """Add the columns of one forward pass; returns all that are in view."""
        self._make(key_states, value_states)
        end = self._columns.stop + key_states.shape[-2]
        fresh = (self._rows, slice(None), slice(self._columns.stop, end))
        self._keys_RHPD[fresh] = key_states  # type: ignore[index]
        self._values_RHPD[fresh] = value_states  # type: ignore[index]
        self.look_at(self._rows, slice(self._columns.start, end))
        return self.keys, self.values

    def put(self, row: int, pair: Pair, *, start: int) -> None:
        """Write keys and values of a row from a column on."""
        keys_HTD, values_HTD = pair
        self._make(keys_HTD[None], values_HTD[None])
        place = (row, slice(None), slice(start, start + keys_HTD.shape[-2]))
        self._keys_RHPD[place] = keys_HTD  # type: ignore[index]
        self._values_RHPD[place] = values_HTD  # type: ignore[index]

    def part(self, row: int, columns: slice) -> Pair:
        """Return what the table holds of a row, not copied."""
        assert self._keys_RHPD is not None and self._values_RHPD is not None
        return self._keys_RHPD[row, :, columns], self._values_RHPD[row, :, columns]

    def resize(self, room: tuple[int, int], *, rows: int, columns: slice, start: int) -> None:
        """Let `columns` of the first rows begin at `start`: in new tables if the room is new."""
        held, self._room = self._room, room
        old: tuple[Any, Any] = (self._keys_RHPD, self._values_RHPD)
        if old[0] is None:
            return
        if room != held:
            self._keys_RHPD = self._values_RHPD = None
            self._make(*old)
        there = slice(start, start + columns.stop - columns.start)
        # Within one table what moves is copied first: on a CPU row by row, in memory that is there.
        size = 1 if room == held and old[0].device.type == "cpu" else max(1, rows)
        tables: tuple[Any, Any] = (self._keys_RHPD, self._values_RHPD)
        for table, before in zip(tables, old, strict=True):
            for row in range(0, rows, size):
                moved = before[row : row + size, :, columns]
                moved = moved.clone() if room == held else moved
                table[row : row + size, :, there] = moved

    def _make(self, keys_RHPD: torch.Tensor, values_RHPD: torch.Tensor) -> None:  # noqa: N803
        if self._keys_RHPD is None:
            # zeros: whatever lies in a hidden column is still multiplied, by zero
            (rows, columns), heads = self._room, keys_RHPD.shape[1]
            self._keys_RHPD = keys_RHPD.new_zeros(rows, heads, columns, keys_RHPD.shape[-1])
            self._values_RHPD = values_RHPD.new_zeros(rows, heads, columns, values_RHPD.shape[-1])
            self.dtype, self.device = keys_RHPD.dtype, keys_RHPD.device
            self.is_initialized = True


class MixedTableLayer(LinearAttentionLayer, TableLayer):
    """A layer with attention and a state beside it."""

    is_compileable = False

    def __init__(self, number_of_states: int) -> None:
        TableLayer.__init__(self)
        LinearAttentionLayer.__init__(self, number_of_states=number_of_states)


@dataclass(frozen=True)
class Inputs:
    """What a forward pass takes beside its tokens; columns of the mask go back before them."""

    mask_BT: torch.Tensor
    positions_BT: torch.Tensor


class KVTable:
    """The rows of the running batch and where they begin.

    Args:
        config: Of the model.
        device: Where the model is.
        max_rows: Most rows there will be.
    """

    def __init__(self, config: Any, *, device: torch.device, max_rows: int) -> None:
        self.cache = DynamicCache(config=config)
        self.cache.layers = [_make_layer(layer) for layer in self.cache.layers]
        self._tables = [each for each in self.cache.layers if isinstance(each, TableLayer)]
        self._others = [e for e in self.cache.layers if isinstance(e, LinearAttentionLayer)]
        self._device, self._max_rows = device, max_rows
        self._room = (0, 0)
        self._end = 0  # the column that is filled next
        self._first: list[int] = []  # each row's first column

    @property
    def reads_alone(self) -> bool:
        """Whether some layers keep a state: prompts are read whole, unpadded and one by one."""
        return bool(self._others)

    def __len__(self) -> int:
        return len(self._first)

    def make_room(self, num_rows: int, *, num_tokens: int) -> None:
        """Have room for more rows of at most so many tokens, at the price of one copy at most."""
        self._make_room(num_rows, before=num_tokens, after=1)

    def join(self, prefix: Prefix, *, num_tokens: int) -> None:
        """Add a row behind the last: its prefix, and space for the rest of its tokens."""
        self.make_room(1, num_tokens=num_tokens)
        first = self._end - num_tokens
        for table, pair in zip(self._tables, prefix.pairs, strict=False):  # an empty one has none
            table.put(len(self), pair, start=first)
        self._first.append(first)

    def join_read(self, alone: "KVTable", ids: Ids) -> None:
        """Add the row of a table that read one prompt, with its states."""
        is_first = not any(layer.device for layer in self._others)
        for mine, fresh in zip(self._others, alone._others, strict=True):
            for name in _STATES:
                states = {
                    index: state if is_first else torch.cat([held, state])
                    for (index, state), held in zip(
                        getattr(fresh, name).items(), getattr(mine, name).values(), strict=True
                    )
                    if state is not None
                }
                getattr(mine, name).update(states)
            if is_first:
                for name in _MARKS:
                    setattr(mine, name, getattr(fresh, name))
        self.join(alone.view(0, ids), num_tokens=len(ids))

    def before_reading(self, rows: slice, *, left: int, num_tokens: int) -> Inputs:
        """Prepare a pass over `num_tokens` columns of some rows; `left` are read after these."""
        stop = self._end - left
        return self._look_at(rows, start=stop - num_tokens, stop=stop)

    def before_token(self) -> Inputs:
        """Prepare a pass over one more token of all rows."""
        self._make_room(0, before=0, after=1)
        self._end += 1
        return self._look_at(slice(0, len(self)), start=self._end - 1, stop=self._end)

    def view(self, row: int, ids: Ids) -> Prefix:
        """Return what the table holds of a row's first tokens, `ids`; not copied."""
        columns = slice(self._first[row], self._first[row] + len(ids))
        return Prefix(ids, tuple(table.part(row, columns) for table in self._tables))

    def leave(self, row: int) -> None:
        """Remove a row; the last one takes its place."""
        last = len(self) - 1
        if row != last:
            for table in self._tables:
                table.put(row, table.part(last, self._columns(last)), start=self._first[last])
        for layer in self._others:
            for states in map(partial(getattr, layer), _STATES):
                for index, state in states.items():
                    if state is not None:
                        state[row] = state[last]
                        states[index] = state[:last]
        self._first[row] = self._first[last]
        self._first.pop()

    def _columns(self, row: int) -> slice:
        return slice(self._first[row], self._end)

    def _look_at(self, rows: slice, *, start: int, stop: int) -> Inputs:
        first_B1 = torch.tensor(self._first[rows], device=self._device)[:, None]
        low = min(*self._first[rows], start)  # of rows read together, some begin in what is read
        for table in self._tables:
            table.look_at(rows, slice(low, start))
        columns_T = torch.arange(low, stop, device=self._device)
        return Inputs(
            mask_BT=(columns_T >= first_B1).long(),
            positions_BT=(columns_T[start - low :] - first_B1).clamp(min=0),
        )

    def _make_room(self, num_rows: int, *, before: int, after: int) -> None:
        """Have room for more rows, for rows of `before` tokens, and for `after` more columns."""
        rows, columns = self._room
        num_rows += len(self)
        if num_rows <= rows and before <= self._end and self._end + after <= columns:
            return
        if num_rows > rows:
            rows = max(num_rows, min(2 * rows, self._max_rows))
        low = min(self._first, default=self._end)
        in_use = slice(low, self._end)
        self._end = max(self._end - low, before)
        start = self._end - (in_use.stop - low)
        wanted = self._end + max(after, _LEAST_ROOM, self._end // 4)
        self._room = (rows, max(columns, wanted) if rows == self._room[0] else wanted)
        for table in self._tables:
            table.resize(self._room, rows=len(self), columns=in_use, start=start)
        self._first = [column - low + start for column in self._first]


def _make_layer(layer: Any) -> Any:
    """Return the layer of the running batch for one of a cache as Transformers makes it."""
    if type(layer) in ATTENTION:
        return TableLayer()
    if type(layer) in MIXED:
        return MixedTableLayer(layer.number_of_states)
    return layer
