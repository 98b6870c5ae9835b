package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
)

// rate is tokens per second of wall time.
func (s sample) rate() float64 { return float64(s.Tokens) / s.Wall }

// cpuRate is tokens per second of processor time: on a busy machine it tells
// more than the clock.
func (s sample) cpuRate() float64 {
	if s.CPU == 0 {
		return 0
	}
	return float64(s.Tokens) / s.CPU
}

func (s sample) String() string {
	return fmt.Sprintf("%.0f tokens/s, %.0f tokens/CPU-s, %.0f MiB, load %.1f", s.rate(), s.cpuRate(), s.Peak, s.Load)
}

// row is one line of the table with its samples.
type row struct {
	Name   string   `json:"name"`
	Cell   cell     `json:"cell"`
	Engine []sample `json:"engine"`
	Torch  []sample `json:"torch,omitempty"`
	Median struct {
		Engine  figures `json:"engine"`
		Torch   figures `json:"torch"`
		Speed   float64 `json:"speed_ratio"` // engine / PyTorch
		CPU     float64 `json:"cpu_rate_ratio"`
		Memory  float64 `json:"peak_ratio"`
		Highest float64 `json:"highest_load"`
	} `json:"median"`
}

// figures are medians.
type figures struct {
	Rate    float64 `json:"tokens_per_s"`
	CPURate float64 `json:"tokens_per_cpu_s"`
	Peak    float64 `json:"peak_mib"`
}

type report struct {
	System string `json:"system"`
	Rows   []*row `json:"rows"`
}

func median(all []sample, f func(sample) float64) float64 {
	var v []float64
	for _, s := range all {
		v = append(v, f(s))
	}
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func figuresOf(all []sample) figures {
	return figures{median(all, sample.rate), median(all, sample.cpuRate), median(all, func(s sample) float64 { return s.Peak })}
}

// ratio is zero where there is nothing to compare with.
func ratio(x, y float64) float64 {
	if y == 0 {
		return 0
	}
	return x / y
}

func (w *row) summarise() {
	m := &w.Median
	m.Engine, m.Torch = figuresOf(w.Engine), figuresOf(w.Torch)
	m.Speed, m.CPU, m.Memory = ratio(m.Engine.Rate, m.Torch.Rate), ratio(m.Engine.CPURate, m.Torch.CPURate), ratio(m.Engine.Peak, m.Torch.Peak)
	for _, s := range slices.Concat(w.Engine, w.Torch) {
		m.Highest = max(m.Highest, s.Load)
	}
}

// print writes the table.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%s; %d × %d tokens a step, float32, AdamW, LoRA of rank 16; medians\n\n", r.System, batch, tokens)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\ttokens/s\t\t\ttokens/CPU-s\t\t\tpeak MiB\t\t\thighest\t")
	fmt.Fprintln(t, "\tengine\tPyTorch\tratio\tengine\tPyTorch\tratio\tengine\tPyTorch\tratio\tload\t")
	for _, x := range r.Rows {
		x.summarise()
		m, e, p := x.Median, x.Median.Engine, x.Median.Torch
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.2f\t%.0f\t%.0f\t%.2f\t%.0f\t%.0f\t%.2f\t%.1f\t\n", x.Name,
			e.Rate, p.Rate, m.Speed, e.CPURate, p.CPURate, m.CPU, e.Peak, p.Peak, m.Memory, m.Highest)
	}
	t.Flush()
}

func (r *report) write(path string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}
