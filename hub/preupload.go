package hub

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// ask learns from the hub how each file is to be uploaded, and what the
// repository has under its name.
func (p *push) ask(ctx context.Context) error {
	u := p.c.revURL(p.query(), "api/models/"+p.opt.Repo.ID+"/preupload", p.opt.Repo.revision(), "")
	for batch := range slices.Chunk(p.files, batchFiles) {
		if err := p.askBatch(ctx, u, batch); err != nil {
			return err
		}
	}
	return nil
}

// uploadMode is what the hub says of one file before it is uploaded.
type uploadMode struct {
	Path   string `json:"path"`
	Mode   string `json:"uploadMode"`
	Ignore bool   `json:"shouldIgnore"`
	OID    string `json:"oid"`
}

func (p *push) askBatch(ctx context.Context, u *url.URL, batch []*localFile) error {
	type item struct {
		Path   string `json:"path"`
		Sample string `json:"sample"`
		Size   int64  `json:"size"`
	}
	var ask struct {
		Files []item `json:"files"`
	}
	for _, f := range batch {
		sample, err := f.head(sampleSize)
		if err != nil {
			return err
		}
		ask.Files = append(ask.Files, item{f.path, base64.StdEncoding.EncodeToString(sample), f.size})
	}
	var told struct {
		Files []uploadMode `json:"files"`
	}
	if err := p.exchange(ctx, u, ask, &told); err != nil {
		return err
	}
	for _, f := range batch {
		i := slices.IndexFunc(told.Files, func(t uploadMode) bool { return t.Path == f.path })
		if i < 0 || told.Files[i].Mode != modeLFS && told.Files[i].Mode != modeRegular {
			return fault.New(fault.Unsupported, "%s does not say how to upload %s", p.c.endpoint.Host, f.path)
		}
		f.mode, f.ignored, f.remote = told.Files[i].Mode, told.Files[i].Ignore, told.Files[i].OID
		if f.size == 0 {
			f.mode = modeRegular // storage takes no empty objects
		}
	}
	return nil
}

// exchange posts JSON and reads JSON.
func (p *push) exchange(ctx context.Context, u *url.URL, ask, told any) error {
	r, err := p.c.post(ctx, u, ask)
	if err != nil {
		return err
	}
	return decode(r, told)
}

const maxCard = 1 << 20 // bytes of a model card that is sent for a check

// card lets the hub check the model card before anything is uploaded: with a
// wrong one it would refuse the commit after that. A hub that does not know the
// check, or has no time for it, is no reason to stop.
func (p *push) card(ctx context.Context) error {
	i := slices.IndexFunc(p.files, func(f *localFile) bool { return f.path == "README.md" && f.wanted() && f.size <= maxCard })
	if i < 0 {
		return nil
	}
	text, err := p.files[i].head(maxCard)
	if err != nil {
		return err
	}
	ask := map[string]string{"repoType": "model", "content": string(text)}
	r, err := p.c.post(ctx, p.c.api(nil, "api/validate-yaml"), ask)
	switch a := answered(err); {
	case err == nil:
		return r.Body.Close()
	case ctx.Err() != nil:
		return interrupted(ctx)
	case a != nil && a.status == http.StatusBadRequest:
		return fault.Wrap(fault.Usage, a, "the hub refuses the head of README.md").
			WithHint("it is YAML between two lines of ---; see %s/docs/hub/model-cards", publicEndpoint)
	}
	return nil
}
