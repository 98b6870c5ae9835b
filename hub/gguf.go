package hub

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Repositories in GGUF hold one model many times, quantised in many ways, each in
// a file or in the parts of a split one. Which is meant has to be said.

// splitPart is the end of the name of a part of a split file.
var splitPart = regexp.MustCompile(`(?i)-([0-9]{5})-of-[0-9]{5}\.gguf$`)

// besides are files in GGUF that are no language models but go with one.
var besides = regexp.MustCompile(`(?i)(^|[-_.])(mmproj|imatrix)`)

// models lists what a repository holds in GGUF: one file each, of split ones the
// first part. total gives the bytes of all parts.
func (r *Repo) models() (list []File, total map[string]int64) {
	total = map[string]int64{}
	for _, f := range r.Files {
		if !strings.EqualFold(path.Ext(f.Path), ".gguf") || besides.MatchString(path.Base(f.Path)) {
			continue
		}
		m := splitPart.FindStringSubmatchIndex(f.Path)
		if m == nil {
			list, total[f.Path] = append(list, f), f.Size
			continue
		}
		first := f.Path[:m[2]] + "00001" + f.Path[m[3]:]
		if first == f.Path {
			list = append(list, f)
		}
		total[first] += f.Size
	}
	return list, total
}

// Locate finds the file that a reference with a Quant means, as llama.cpp does: the
// one whose name has it before a dash, a dot or its end. Other references stay.
func (c *Client) Locate(ctx context.Context, ref Ref) (Ref, error) {
	if ref.Quant == "" {
		return ref, nil
	}
	name := ref.Quant
	ref.Quant = ""
	repo, err := c.listed(ctx, ref)
	if err != nil {
		return ref, err
	}
	want := regexp.MustCompile(`(?i)(^|[-_./])` + regexp.QuoteMeta(name) + `([-.]|$)`)
	all, _ := repo.models()
	found := slices.DeleteFunc(slices.Clone(all), func(f File) bool { return !want.MatchString(f.Path) })
	switch {
	case len(found) == 1:
		ref.Path = found[0].Path
		return ref, nil
	case len(all) == 0:
		return ref, fault.New(fault.Unsupported, "%s holds no GGUF, which %s would be a quantisation of", ref.ID, name).
			WithHint("all of the model is written %s", ref.ID)
	case len(found) == 0:
		return ref, fault.New(fault.General, "%s holds no GGUF %s: %s", ref.ID, name, repo.choices(all)).WithHint("%s", choose(ref, all[0]))
	}
	return ref, fault.New(fault.General, "%s holds several GGUF %s: %s", ref.ID, name, repo.choices(found)).WithHint("%s", choose(ref, found[0]))
}

// listed returns what a repository holds: as the hub says, or, where that cannot
// be asked, as the cache knows it.
func (c *Client) listed(ctx context.Context, ref Ref) (*Repo, error) {
	repo, err := c.Repo(ctx, ref)
	if a := answered(err); err == nil || ctx.Err() != nil || a != nil && a.status < 500 && a.status != http.StatusTooManyRequests {
		return repo, err
	}
	if commit := c.cachedCommit(ref); commit != "" {
		if files := c.cachedTree(ref.ID, commit); files != nil {
			return &Repo{Ref: ref, ID: ref.ID, Commit: commit, Files: files, client: c}, nil
		}
	}
	return nil, err
}

const maxChoices = 12 // files that are listed to choose from

// choices lists files with their sizes.
func (r *Repo) choices(list []File) string {
	_, total := r.models()
	var b strings.Builder
	for i, f := range list {
		if i == maxChoices {
			fmt.Fprintf(&b, ", and %d more", len(list)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s (%s)", f.Path, size(total[f.Path]))
	}
	return b.String()
}

func choose(ref Ref, f File) string {
	ref.Path = f.Path
	return fmt.Sprintf("name the file: %s", ref)
}
