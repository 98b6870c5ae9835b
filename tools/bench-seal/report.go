package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// report holds all samples.
type report struct {
	o       options
	Started string              `json:"started"`
	System  string              `json:"system"`
	Bytes   int64               `json:"bytes"`
	Order   []string            `json:"steps"`
	Samples map[string][]sample `json:"samples"`
	Median  map[string]sample   `json:"median"`
	Best    map[string]sample   `json:"best"`
}

// over takes each figure by itself over all samples: pick gets the sorted values.
func over(all []sample, pick func(sorted []float64) float64) sample {
	by := func(f func(sample) float64) float64 {
		var v []float64
		for _, s := range all {
			v = append(v, f(s))
		}
		slices.Sort(v)
		return pick(v)
	}
	return sample{
		Wall:   by(func(s sample) float64 { return s.Wall }),
		User:   by(func(s sample) float64 { return s.User }),
		System: by(func(s sample) float64 { return s.System }),
		Peak:   by(func(s sample) float64 { return s.Peak }),
	}
}

func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func smallest(sorted []float64) float64 { return sorted[0] }

// figures are all steps' figures, and those of copying and hashing together.
func (r *report) figures(pick func([]float64) float64) map[string]sample {
	m := map[string]sample{}
	for name, s := range r.Samples {
		m[name] = over(s, pick)
	}
	c, h := m[stepCopy], m[stepHash]
	m[stepBoth] = sample{c.Wall + h.Wall, c.User + h.User, c.System + h.System, max(c.Peak, h.Peak)}
	return m
}

// stepBoth is what sealing is held against.
const stepBoth = "cp -r + SHA-256, two processes"

// print writes the table: the median of every figure, and the ratios of wall
// times to the copying and hashing of this run, for the medians and for the
// best runs, which what else goes on in the machine disturbs least.
func (r *report) print(w io.Writer) {
	mid, best := r.figures(median), r.figures(smallest)
	fmt.Fprintf(w, "%.3f GB in %d shards, bf16; %s; median of %d\n\n", float64(r.Bytes)/1e9, shards, r.System, r.o.reps)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "step\twall s\tbest s\tuser s\tsystem s\tpeak MiB\t× (cp + SHA-256)\tbest\t× cp\t× (cp, sync)\t")
	row := func(name string) {
		s, b := mid[name], best[name]
		fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%.2f\t%.2f\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t\n", name, s.Wall, b.Wall, s.User, s.System, s.Peak,
			s.Wall/mid[stepBoth].Wall, b.Wall/best[stepBoth].Wall, s.Wall/mid[stepCopy].Wall, s.Wall/mid[stepFlush].Wall)
	}
	for _, name := range r.Order {
		row(name)
		if name == stepHash {
			row(stepBoth)
		}
	}
	t.Flush()
	r.printPython(w, mid)
}

// printPython compares with the figures of the original Python tool, which were
// taken for one GB.
func (r *report) printPython(w io.Writer, m map[string]sample) {
	if r.o.cpuPy <= 0 || r.o.gb != 1 {
		return
	}
	fmt.Fprintf(w, "\nThe original Python tool, 1 GB: %.1f s wall, %.1f s CPU, %.0f MiB.\n", r.o.wallPy, r.o.cpuPy, r.o.peakPy)
	for _, p := range r.o.profiles {
		s := m["lock --profile "+p]
		fmt.Fprintf(w, "lock --profile %s: %.1f times less wall time, %.1f times less CPU, %.0f times less memory.\n",
			p, r.o.wallPy/s.Wall, r.o.cpuPy/s.CPU(), r.o.peakPy/s.Peak)
	}
}

// write saves everything as JSON.
func (r *report) write(path string) error {
	r.Median, r.Best = r.figures(median), r.figures(smallest)
	return writeJSON(path, r)
}
