package main

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/neuroseal/neuroseal/arena/train"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// sample is what one process measured. testdata/bench.py prints the same.
type sample struct {
	Tokens int     `json:"tokens"` // in the steps measured
	Wall   float64 `json:"wall_s"` // of these steps
	CPU    float64 `json:"cpu_s"`  // of these steps, all threads
	Peak   float64 `json:"peak_mib"`
	Loss   float64 `json:"loss"` // of the first step
	Load   float64 `json:"load"` // of the machine, one minute, at the end
}

// warm is the number of steps before those that count.
const warm = 2

// runEngine trains in this process and prints a sample.
func runEngine(c cell, seconds float64, profile string) error {
	s := shapes[c.Model]
	g, err := s.graph()
	if err != nil {
		return err
	}
	src := weights{s.tensors(), dtype.F32}
	if c.BF16 {
		src.d = dtype.BF16
	}
	o := train.Options{Batch: batch, Workers: c.Threads, Trainable: train.Trainable{Kind: train.Full}}
	if c.Modules != "" {
		o.Trainable = train.Trainable{Kind: train.LoRA, Modules: strings.Split(c.Modules, ","), Rank: 16, Alpha: 32}
	}
	e, err := train.New(context.Background(), g, src, o)
	if err != nil {
		return err
	}
	tr, err := train.NewTrainer(e, train.TrainOptions{LR: 2e-4, Optimizer: train.Optimizer{WeightDecay: 0.01}})
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(1, 2))
	data := train.Batch{Tokens: make([]int32, batch*tokens), Targets: make([]int32, batch*tokens)}
	for i := range data.Tokens {
		data.Tokens[i], data.Targets[i] = rng.Int32N(512), rng.Int32N(512)
	}
	var out sample
	for i := range warm {
		r, err := tr.Step(data)
		if err != nil {
			return err
		}
		if i == 0 {
			out.Loss = r.Loss
		}
	}
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	began, cpu := time.Now(), cpuSeconds()
	for out.Wall < seconds {
		if _, err := tr.Step(data); err != nil {
			return err
		}
		out.Tokens += batch * tokens
		out.Wall = time.Since(began).Seconds()
	}
	out.CPU, out.Peak, out.Load = cpuSeconds()-cpu, peakMiB(), load()
	return json.NewEncoder(os.Stdout).Encode(out)
}
