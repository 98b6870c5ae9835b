package arch_test

import (
	"testing"

	"github.com/neuroseal/neuroseal/gauge"
)

func TestZZ(t *testing.T) {
	net, _ := openGGUF(t, "testdata/gguf/mamba.gguf", 5)
	sol, _ := gauge.Solve(net.Graph)
	for _, x := range sol.Tensors {
		for _, a := range x.Terms {
			for _, s := range a.Segments {
				if sol.Groups[s.Group].Layer == 0 && sol.Groups[s.Group].Kind != "norm" {
					t.Log(x.Name, x.Shape, x.Input, a.Axes, sol.Groups[s.Group].ID, s)
				}
			}
		}
	}
}
