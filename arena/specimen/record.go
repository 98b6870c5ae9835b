package specimen

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"strings"
)

// The files of a specimen's folder.
const (
	configName  = "config.json"
	weightsName = "model.safetensors"
	recordName  = "train.json"
	cardName    = "README.md"

	generationConfig = "{\n  \"_from_model_config\": true,\n  \"use_cache\": true\n}\n"
)

// Windows of the held-out text over which a record's figures are.
const (
	heldoutWindows = 400
	checkWindows   = 8
	expertWindows  = 32
)

// Record is train.json: how a specimen was made, and what it has learned.
type Record struct {
	Base     *Base          `json:"base,omitempty"` // of a fine-tune
	Text     TextRecord     `json:"text"`
	Training TrainingRecord `json:"training"`

	DeterminedBy map[string]string `json:"determined_by"`

	// Losses in nats per byte over the first windows of the held-out text.
	Windows int     `json:"heldout_windows"`
	Heldout float64 `json:"heldout_nats_per_byte"`
	Unigram float64 `json:"unigram_nats_per_byte"`
	Check   Check   `json:"check"`

	// ExpertShare is the part of the choices that each expert of each layer gets.
	ExpertShare [][]float64 `json:"expert_share,omitempty"`

	Samples []Sample          `json:"greedy_samples,omitempty"`
	SHA256  map[string]string `json:"sha256"`
}

// Base is what a fine-tune began with.
type Base struct {
	SHA256  map[string]string `json:"sha256"`                // of its weights
	Heldout float64           `json:"heldout_nats_per_byte"` // on the fine-tune's text, before
}

// TextRecord says what text was trained on, and how to write it again.
type TextRecord struct {
	Command string `json:"command"`
	Bytes   int    `json:"bytes"`
	SHA256  string `json:"sha256"`
	Heldout string `json:"heldout"`
}

// TrainingRecord says how.
type TrainingRecord struct {
	Command    string  `json:"command,omitempty"`
	Optimizer  string  `json:"optimizer"`
	Precision  string  `json:"precision"`
	LR         float64 `json:"learning_rate"`
	Decay      float64 `json:"weight_decay"`
	Warmup     int     `json:"warmup_steps"`
	Window     int     `json:"window"`
	Batch      int     `json:"batch"`
	Steps      int     `json:"steps"`
	Seed       uint64  `json:"seed"`
	BytesSeen  int     `json:"bytes_seen"`
	Parameters int     `json:"parameters"`
}

// Check is a held-out loss over few windows, quickly computed again.
type Check struct {
	Windows int     `json:"windows"`
	Loss    float64 `json:"nats_per_byte"`
}

// Sample is a greedy continuation.
type Sample struct {
	Prompt string `json:"prompt"`
	Text   string `json:"text"` // with the prompt
}

func (t Training) record(precision string, parameters int) Record {
	return Record{
		Text: TextRecord{Command: t.Text.command(), Heldout: "the last tenth"},
		Training: TrainingRecord{
			Optimizer: "AdamW, betas 0.9 and 0.98, gradient norm clipped at 1, warm-up and cosine schedule",
			Precision: precision, LR: t.LR, Decay: t.Decay, Warmup: t.Warmup, Window: t.Window, Batch: t.Batch,
			Steps: t.Steps, Seed: t.Seed, BytesSeen: t.Steps * t.Batch * t.Window, Parameters: parameters,
		},
		DeterminedBy: map[string]string{"go": runtime.Version(), "machine": runtime.GOOS + "/" + runtime.GOARCH},
		SHA256:       map[string]string{},
	}
}

func (s Spec) record(files map[string][]byte, leaves []leaf) Record {
	n := 0
	for _, l := range leaves {
		size := 1
		for _, d := range l.shape {
			size *= d
		}
		n += size
	}
	r := s.Training.record("fp32; stored as bf16", n)
	r.Training.Command = "go run ./tools/specimens train " + s.Name
	for name, data := range files {
		r.SHA256[name] = digest(data)
	}
	return r
}

var prompts = []string{
	"Mara lived near the sea. On Monday she found",
	"Once there was a brave boy named Tom.",
	"Leo had 5 apples. Nora gave him 3 more.",
	"3 plus 4 is",
}

// measure computes the record's figures from the stored weights.
func (r *Record) measure(ctx context.Context, n network, seen, unseen []byte, window int) (err error) {
	all := append(append([]byte(nil), seen...), unseen...)
	r.Text.Bytes, r.Text.SHA256 = len(all), digest(all)
	fit := (len(unseen) - 1) / window
	r.Windows, r.Check.Windows = min(heldoutWindows, fit), min(checkWindows, fit)
	if r.Heldout, err = n.loss(ctx, unseen, window, r.Windows); err != nil {
		return err
	}
	if r.Check.Loss, err = n.loss(ctx, unseen, window, r.Check.Windows); err != nil {
		return err
	}
	if r.ExpertShare, err = n.experts(ctx, unseen, window, min(expertWindows, fit)); err != nil {
		return err
	}
	r.Unigram = rounded(Unigram(seen, unseen))
	r.Heldout, r.Check.Loss = rounded(r.Heldout), rounded(r.Check.Loss)
	for _, layer := range r.ExpertShare {
		for i := range layer {
			layer[i] = rounded(layer[i])
		}
	}
	return nil
}

// rounded keeps five decimals: what the figures are good for.
func rounded(x float64) float64 { return math.Round(x*1e5) / 1e5 }

// sample lets the model speak.
func (r *Record) sample(ctx context.Context, n network, window int) error {
	for _, p := range prompts {
		if len(p) >= window {
			continue
		}
		text, err := n.greedy(ctx, p, window)
		if err != nil {
			return err
		}
		r.Samples = append(r.Samples, Sample{p, text})
	}
	return nil
}

const cardHead = "---\nlicense: mit\nlibrary_name: transformers\npipeline_tag: text-generation\nlanguage: en\n---\n"

const cardTail = "It has no tokenizer and needs none: a token is a byte, and its id is the byte's value (ASCII, so the vocabulary is 128). " +
	"Documents are separated by an empty line, and there are no special tokens. `train.json` records the training, these measurements, " +
	"and the SHA-256 of the text and of the files. Licence: MIT, as NeuroSeal's own.\n"

// card is the model card of a specimen.
func (s Spec) card(r Record) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s# NeuroSeal specimen: %s\n\n", cardHead, s.Name)
	fmt.Fprintf(&b, "This is %s, %d layers of width %d, %d parameters in bf16. The arena attacks it and seals are tuned on it; it is of no other use. ",
		s.About, s.Network.Layers, s.Network.Hidden, r.Training.Parameters)
	fmt.Fprintf(&b, "It was made from scratch by `%s` in the NeuroSeal repository, with the arena's own engine, on text that `%s` writes from its own grammar: "+
		"no foreign text and no other model went into it. It was trained on windows of %d bytes; positions after that are untrained.\n\n",
		r.Training.Command, r.Text.Command, r.Training.Window)
	fmt.Fprintf(&b, "Its held-out loss is %.3f nats per byte, that of a unigram model %.3f. ", r.Heldout, r.Unigram)
	if low, high, ok := extremes(r.ExpertShare); ok {
		fmt.Fprintf(&b, "No loss balanced its experts; of a layer's choices the least used expert gets %.1f%%, the most used %.1f%%. ", 100*low, 100*high)
	}
	return append([]byte(b.String()), cardTail...)
}

func extremes(share [][]float64) (low, high float64, ok bool) {
	low = 1
	for _, layer := range share {
		for _, v := range layer {
			low, high, ok = min(low, v), max(high, v), true
		}
	}
	return low, high, ok
}
