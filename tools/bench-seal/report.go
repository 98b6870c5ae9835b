package main

import (
	"cmp"
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
}

// median takes the median of each figure by itself.
func median(all []sample) sample {
	mid := func(f func(sample) float64) float64 {
		s := slices.SortedFunc(slices.Values(all), func(a, b sample) int { return cmp.Compare(f(a), f(b)) })
		n := len(s)
		return (f(s[(n-1)/2]) + f(s[n/2])) / 2
	}
	return sample{
		mid(func(s sample) float64 { return s.Wall }),
		mid(func(s sample) float64 { return s.CPU }),
		mid(func(s sample) float64 { return s.Peak }),
	}
}

func (r *report) medians() map[string]sample {
	m := map[string]sample{}
	for name, s := range r.Samples {
		m[name] = median(s)
	}
	return m
}

// print writes the table. Ratios are to the copying and hashing of this run.
func (r *report) print(w io.Writer) {
	m := r.medians()
	base := m[stepCopy].Wall + m[stepHash].Wall
	fmt.Fprintf(w, "%.3f GB in %d shards, bf16; %s; median of %d\n\n", float64(r.Bytes)/1e9, shards, r.System, r.o.reps)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "step\twall s\tCPU s\tpeak MiB\t× (cp + SHA-256)\t× cp\t× (cp, sync)\t")
	row := func(name string, s sample) {
		fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%.0f\t%.2f\t%.2f\t%.2f\t\n", name, s.Wall, s.CPU, s.Peak,
			s.Wall/base, s.Wall/m[stepCopy].Wall, s.Wall/m[stepFlush].Wall)
	}
	for _, name := range r.Order {
		row(name, m[name])
		if name == stepHash {
			c, h := m[stepCopy], m[stepHash]
			row("cp -r + SHA-256, two processes", sample{base, c.CPU + h.CPU, max(c.Peak, h.Peak)})
		}
	}
	t.Flush()
	r.printPython(w, m)
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
			p, r.o.wallPy/s.Wall, r.o.cpuPy/s.CPU, r.o.peakPy/s.Peak)
	}
}

// write saves everything as JSON.
func (r *report) write(path string) error {
	r.Median = r.medians()
	return writeJSON(path, r)
}
