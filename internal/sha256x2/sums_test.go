package sha256x2

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"
)

// tracked counts streams that are open.
type tracked struct {
	io.Reader
	open *atomic.Int64
}

func (r tracked) Close() error {
	r.open.Add(-1)
	return nil
}

// TestSums: any number of streams of any length, read in any pieces, by any number
// of workers.
func TestSums(t *testing.T) {
	data := make([]byte, 2*ahead+1000)
	for i := range data {
		data[i] = byte(i * i >> 3)
	}
	sizes := []int{0, 1, ahead, 64, 2*ahead + 1000, ahead - 1, 0, ahead + 1, 1000}
	portable(t, func(t *testing.T) {
		for n := range len(sizes) + 1 {
			for _, workers := range []int{0, 1, 2, 100} {
				var open atomic.Int64
				sums, err := Sums(context.Background(), n, workers, func(i int) (io.ReadCloser, error) {
					open.Add(1)
					r := io.Reader(bytes.NewReader(data[:sizes[i]]))
					if i%3 == 0 {
						r = iotest.DataErrReader(iotest.HalfReader(r))
					}
					return tracked{r, &open}, nil
				})
				if err != nil || len(sums) != n {
					t.Fatalf("%d streams, %d workers: %d sums, %v", n, workers, len(sums), err)
				}
				for i, got := range sums {
					if got != sha256.Sum256(data[:sizes[i]]) {
						t.Errorf("%d streams, %d workers: stream %d: another sum", n, workers, i)
					}
				}
				if open.Load() != 0 {
					t.Errorf("%d streams, %d workers: %d are open", n, workers, open.Load())
				}
			}
		}
	})
}

// TestSumsFail: an error ends the work, and every stream is closed.
func TestSumsFail(t *testing.T) {
	wrong := errors.New("wrong")
	for _, at := range []int{0, 1, 5} {
		for name, bad := range map[string]func() (io.Reader, error){
			"open": func() (io.Reader, error) { return nil, wrong },
			"read": func() (io.Reader, error) { return iotest.ErrReader(wrong), nil },
			"middle": func() (io.Reader, error) {
				return io.MultiReader(bytes.NewReader(make([]byte, ahead+1)), iotest.ErrReader(wrong)), nil
			},
			"cut": func() (io.Reader, error) { return iotest.ErrReader(io.ErrUnexpectedEOF), nil },
		} {
			var open atomic.Int64
			_, err := Sums(context.Background(), 6, 2, func(i int) (io.ReadCloser, error) {
				r := io.Reader(bytes.NewReader(make([]byte, 3*ahead)))
				if i == at {
					var err error
					if r, err = bad(); err != nil {
						return nil, err
					}
				}
				open.Add(1)
				return tracked{r, &open}, nil
			})
			if !errors.Is(err, wrong) && !(name == "cut" && errors.Is(err, io.ErrUnexpectedEOF)) {
				t.Errorf("%s of stream %d: %v", name, at, err)
			}
			if open.Load() != 0 {
				t.Errorf("%s of stream %d: %d are open", name, at, open.Load())
			}
		}
	}
}

// endless gives zeros for ever.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestSumsEnd: an ended context ends the work.
func TestSumsEnd(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	var open atomic.Int64
	_, err := Sums(ctx, 3, 1, func(int) (io.ReadCloser, error) {
		open.Add(1)
		return tracked{endless{}, &open}, nil
	})
	if !errors.Is(err, context.DeadlineExceeded) || open.Load() != 0 {
		t.Errorf("%v, %d are open", err, open.Load())
	}
}
