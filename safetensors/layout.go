package safetensors

import (
	"cmp"
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// checkLayout sorts the tensors by position and refuses holes and overlaps.
func (h *Header) checkLayout() error {
	h.Order = make([]int, len(h.Tensors))
	for i := range h.Order {
		h.Order[i] = i
	}
	slices.SortStableFunc(h.Order, func(a, b int) int {
		x, y := &h.Tensors[a], &h.Tensors[b]
		return cmp.Or(cmp.Compare(x.Begin, y.Begin), cmp.Compare(x.End, y.End))
	})
	var end int64
	var last string
	for _, i := range h.Order {
		t := &h.Tensors[i]
		switch {
		case t.Begin > end:
			return fault.New(fault.Mismatch, "data bytes %d to %d, before tensor %q, belong to no tensor", end, t.Begin, t.Name)
		case t.Begin < end:
			return fault.New(fault.Mismatch, "tensor %q begins at data byte %d, inside tensor %q, which ends at %d", t.Name, t.Begin, last, end)
		}
		end, last = t.End, t.Name
	}
	if end > math.MaxInt64-h.DataStart {
		return fault.New(fault.Mismatch, "tensor %q ends at data byte %d, beyond 63 bits", last, end)
	}
	return nil
}

// checkSize demands that the file ends where its last tensor does.
func (h *Header) checkSize(size int64) error {
	switch end := h.DataEnd(); {
	case size > end:
		return fault.New(fault.Mismatch, "%d bytes after the last tensor, from byte %d", size-end, end).
			WithHint("the file is corrupt; download it again")
	case size < end:
		return fault.New(fault.Mismatch, "file ends at byte %d, inside tensor %q; %d bytes are missing", size, h.tensorAt(size), end-size).
			WithHint("the file is truncated; download it again")
	}
	return nil
}

// tensorAt returns the name of the tensor that holds byte off of the file.
func (h *Header) tensorAt(off int64) string {
	for _, i := range h.Order {
		if h.DataStart+h.Tensors[i].End > off {
			return h.Tensors[i].Name
		}
	}
	return ""
}
