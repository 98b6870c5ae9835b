package arena

import (
	"context"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/arena/corpus"
	"github.com/neuroseal/neuroseal/checkpoint"
)

// OpenTexts loads the target and the retained text as tokens of the model whose
// folder p.Tokenizer is.
func OpenTexts(ctx context.Context, p Paths) (target, retained *corpus.Corpus, err error) {
	vocab, err := Vocabulary(p.Tokenizer)
	if err != nil {
		return nil, nil, err
	}
	tok, err := corpus.ForModel(p.Tokenizer, vocab)
	if err != nil {
		return nil, nil, err
	}
	if target, err = corpus.Open(ctx, p.Target, tok, corpus.Options{}); err != nil {
		return nil, nil, err
	}
	retained, err = corpus.Open(ctx, p.Retained, tok, corpus.Options{})
	return target, retained, err
}

// Vocabulary is the number of tokens that a model knows.
func Vocabulary(path string) (int, error) {
	ck, err := checkpoint.Open(path)
	if err != nil {
		return 0, err
	}
	defer ck.Close()
	m, err := arch.Build(ck.ConfigJSON(), ck.Shapes(), arch.Options{Tokens: 1, AllowUnsealed: true})
	if err != nil {
		return 0, err
	}
	return m.Vocab, nil
}
