package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/seal"
)

// partsHelp is what lock --help says of parts.
const partsHelp = `Several machines that share a file system can seal one checkpoint: --part 1/n to
--part n/n, at the same time or one after the other, each seal their share of the
shards into DST.parts, and --finish makes DST of them, byte for byte what one lock
makes with the same key, options and SOURCE_DATE_EPOCH. Shards are dealt out by
size, the largest first, each to the part with the fewest bytes so far. All parts
and --finish need the same --key-file and options; keyslots are written by
--finish alone. A part that was interrupted goes on where it was.

Every part plans the whole seal, for which all weights are read. The parts share
what they have read through DST.parts: a part begun later reads its own shards
only, and parts begun together read the checkpoint about once between them (three
parts of 14 shards: 1.1 times; of 3 unequal shards: 1.8 times). To measure
activations, portable reads it once more: in the first part, and in every part that
is at that point before the first has finished. --finish reads each sealed shard
once, to check it, and copies none if DST's file system has hard
links.`

// checkParts refuses options that do not go with --part and --finish.
func (o *lockOptions) checkParts(part bool) error {
	switch {
	case part && o.Finish:
		return fault.New(fault.Usage, "--part and --finish exclude each other").
			WithHint("seal every part first, then run --finish once")
	case part && o.Sign.given():
		return fault.New(fault.Usage, "a part is not signed").WithHint("give --sign to --finish")
	case o.DryRun:
		return fault.New(fault.Usage, "--dry-run shows the whole seal").WithHint("leave --part and --finish out")
	case o.Method != seal.Static && o.KeyFile == "":
		return fault.New(fault.Usage, "the parts of a seal need one key for all, from --key-file; a new key for each would not fit together").
			WithHint("make one with: neuroseal key generate seal.key, and give --key-file seal.key to every part and to --finish")
	}
	return nil
}

// partKey reads the key of a part. Who else may open the seal is for --finish to
// write down; a mistake in it is better told now.
func (o *lockOptions) partKey(u *ui.UI) (keys.SealKey, error) {
	if o.Method == seal.Static {
		k, err := o.prepareKey(u)
		if err != nil {
			return keys.SealKey{}, err
		}
		return k.key, nil
	}
	to := append([]string(nil), o.Slots.Recipients...)
	for _, f := range o.Slots.RecipientFiles {
		to = append(to, filepath.Clean(f))
	}
	if _, err := keys.ParseRecipients(to...); err != nil {
		return keys.SealKey{}, err
	}
	k, warning, err := keys.ReadKeyFile(o.KeyFile)
	if err == nil && warning != "" {
		u.Warn("%s", warning)
	}
	return k, err
}

func runLockPart(ctx context.Context, u *ui.UI, o lockOptions) error {
	part, err := neuroseal.ParsePart(o.Part)
	if err != nil {
		return err
	}
	if err := neuroseal.CheckPatterns(append(append([]string(nil), o.Include...), o.Exclude...)); err != nil {
		return err
	}
	if err := neuroseal.CheckSource(o.Source, o.Graph, o.AllowUnsealed); err != nil {
		return err
	}
	if o.LockOptions.Key, err = o.partKey(u); err != nil {
		return err
	}
	o.Notice = func(msg string) { u.Note("%s", msg) }
	p := newStages(u)
	o.Progress = p
	res, err := neuroseal.LockPart(ctx, o.LockOptions, part)
	p.end(err == nil)
	if err != nil {
		return err
	}
	return showPart(u, o, res)
}

// partJSON is what lock --part --json prints.
type partJSON struct {
	Part      int             `json:"part"`
	Parts     int             `json:"parts"`
	Folder    string          `json:"folder"`
	Output    string          `json:"output"` // what --finish will make
	Method    string          `json:"method"`
	Profile   string          `json:"profile,omitempty"`
	ModelType string          `json:"model_type"`
	Plan      string          `json:"plan,omitempty"`
	Shards    []partShardJSON `json:"shards"`
	Bytes     int64           `json:"bytes"` // sealed by this run
	Done      int             `json:"shards_done"`
	All       int             `json:"shards_all"`
	Complete  bool            `json:"complete"` // --finish has all it needs
}

type partShardJSON struct {
	Path    string `json:"path"`
	Size    int64  `json:"size"`
	Skipped bool   `json:"skipped"`
}

func showPart(u *ui.UI, o lockOptions, r *neuroseal.PartResult) error {
	out := filepath.Clean(o.Output)
	object := partJSON{
		Part: r.Part.Index, Parts: r.Part.Count, Folder: neuroseal.PartsFolder(o.Output), Output: out, Method: string(o.Method),
		Profile: string(o.Profile), ModelType: r.ModelType, Plan: r.Plan, Shards: []partShardJSON{}, Bytes: r.Bytes,
		Done: r.Done.Shards, All: r.All.Shards, Complete: r.Done == r.All,
	}
	skipped := 0
	for _, s := range r.Shards {
		object.Shards = append(object.Shards, partShardJSON(s))
		if s.Skipped {
			skipped++
		}
	}
	return u.Result(object, object.Folder, func(w io.Writer) {
		fmt.Fprintf(w, "Part %v of %s: %s sealed into %s; shards: %d", r.Part, r.ModelType, ui.Bytes(r.Bytes), object.Folder, len(r.Shards))
		if skipped > 0 {
			fmt.Fprintf(w, ", complete before: %d", skipped)
		}
		fmt.Fprintf(w, "\nSealed so far: %d of %d shards", r.Done.Shards, r.All.Shards)
		if object.Complete {
			fmt.Fprintf(w, ": --finish makes %s of them", out)
		}
		fmt.Fprintln(w)
	})
}
