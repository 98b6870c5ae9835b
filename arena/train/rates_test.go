package train

import (
	"context"
	"slices"
	"strings"
	"testing"
)

// TestRates: the first pattern that matches a parameter, or the module of an
// adapter, multiplies its rate.
func TestRates(t *testing.T) {
	g := tiny(t, decoder)
	e, err := New(context.Background(), g, memory{g, 1, 0.6}, Options{Batch: 1, Trainable: Trainable{Kind: LoRA, Modules: []string{"wv", "o_proj"}, Rank: 2, Alpha: 2, Ratio: 4}})
	if err != nil {
		t.Fatal(err)
	}
	tr, err := NewTrainer(e, TrainOptions{LR: 1, Optimizer: Optimizer{Method: SGD}, Rates: []Rate{{"*.lora_B", 0}, {"o_proj", 3}}})
	if err != nil {
		t.Fatal(err)
	}
	before := map[string][]float32{}
	for i, p := range e.Params() {
		want := map[string]float64{"wv.lora_A": 1, "wv.lora_B": 0, "o_proj.lora_A": 3, "o_proj.lora_B": 0}[p.Name]
		if tr.rates[i] != want {
			t.Errorf("%s: rate %v, want %v", p.Name, tr.rates[i], want)
		}
		if strings.HasSuffix(p.Name, "lora_B") {
			p.Data[0] = 1
		}
		before[p.Name] = slices.Clone(p.Data)
	}
	if _, err := tr.Step(Batch{Tokens: make([]int32, testT), Targets: make([]int32, testT)}); err != nil {
		t.Fatal(err)
	}
	for _, p := range e.Params() {
		if still := slices.Equal(p.Data, before[p.Name]); still != strings.HasSuffix(p.Name, "lora_B") {
			t.Errorf("%s: kept still %v", p.Name, still)
		}
	}
	for _, bad := range []Rate{{"q_proj", 1}, {"[", 1}} {
		if _, err := NewTrainer(e, TrainOptions{Rates: []Rate{bad}}); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}
