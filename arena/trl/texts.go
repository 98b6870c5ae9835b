package trl

import (
	"context"
	"sync"

	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/arena/corpus"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// text is what is trained on, or looked at: a corpus.Corpus.
type text interface {
	Export(dir string, r corpus.Run) error
}

// texts keeps open texts: trials share them.
type texts struct {
	mu    sync.Mutex
	known map[arena.Paths][2]*corpus.Corpus
}

// open loads a task's texts, once for all tasks that share them.
func (x *texts) open(ctx context.Context, t arena.Task) (target, retained text, err error) {
	key := arena.Paths{Target: t.Paths.Target, Retained: t.Paths.Retained, Tokenizer: t.Paths.Tokenizer}
	x.mu.Lock()
	defer x.mu.Unlock()
	pair, ok := x.known[key]
	if !ok {
		if pair[0], pair[1], err = arena.OpenTexts(ctx, key); err != nil {
			return nil, nil, err
		}
		if x.known == nil {
			x.known = map[arena.Paths][2]*corpus.Corpus{}
		}
		x.known[key] = pair
	}
	if pair[0].Digest != t.Trial.Target || pair[1].Digest != t.Trial.Retained {
		return nil, nil, fault.New(fault.Mismatch, "the texts are not those that the run began with").
			WithHint("give the same --data as before, or another run folder")
	}
	return pair[0], pair[1], nil
}
