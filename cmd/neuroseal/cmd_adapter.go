package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/hub"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/manifest"
)

// adapterOptions are the options of adapter.
type adapterOptions struct {
	neuroseal.AdapterOptions // without key and progress

	To  string
	Key keyOptions
	Hub hubOptions
}

func adapterCommand(u *ui.UI) *cobra.Command {
	o := adapterOptions{}
	cmd := &cobra.Command{
		Use:   "adapter ADAPTER DST --sealed SEALED --to original|sealed",
		Short: "Convert a LoRA between a sealed model and its original",
		Long: `Convert ADAPTER, a folder that PEFT saved (adapter_config.json and
adapter_model.safetensors), into the new folder DST. --to original takes an
adapter that was trained on the sealed model, and makes one for the original;
--to sealed goes the other way. The converted adapter does to its model exactly
what the first one does to its own, and converting back gives the same bytes.

SEALED is the sealed model, or only its neuroseal_config.json: its weights are
not read. Of a model on the hub, only that file is downloaded. The key comes
from --key-file, or from a keyslot that an --identity or a passphrase opens, as
for unlock; SEALED.key is used if it exists.

LoRA of every rank pattern, rsLoRA, LoRA on embeddings, on fused projections, on
experts' parameters, biases, modules_to_save and trainable tokens are converted,
and IA3, which needs no factors. DoRA is where the seal scales the rows of its
weights only. What has no exact counterpart is refused, by name: other types of
adapters, starts that take a part out of the base (PiSSA, OLoRA, CorDA, LoftQ)
unless the adapter was saved as a plain LoRA, quantised checkpoints, seals of
method static or dynamic, and elements that leave the range of their type.

adapter_config.json is copied: load the result with the model that it now fits,
whatever base_model_name_or_path says.`,
		Example: `  neuroseal adapter ./lora ./lora-original --sealed ./sealed --to original
  neuroseal adapter ./lora ./lora-sealed --sealed ./sealed --to sealed --key-file seal.key
  neuroseal adapter ./lora ./lora-original --sealed org/name-sealed --to original -i identity.txt`,
		Args: operands("ADAPTER", "DST"),
	}
	f := cmd.Flags()
	f.StringVar(&o.Sealed, "sealed", "", "the sealed model that the adapter belongs to, `SEALED`: a folder, a manifest, or a model on the hub; required")
	f.StringVar(&o.To, "to", "", "original or sealed: the `MODEL` that the new adapter is for; required")
	o.Key.register(f)
	o.Key.registerDetached(f)
	o.Hub.registerToken(f)
	f.BoolVar(&o.Force, "force", false, "replace DST, when the new one is complete")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Source, o.Output = args[0], args[1]
		if err := o.check(); err != nil {
			return err
		}
		return runAdapter(cmd.Context(), u, o)
	}
	return mayExit(cmd, fault.NotSealed, fault.WrongKey, fault.Mismatch, fault.Unsupported, fault.NoSpace, fault.Interrupted)
}

func (o *adapterOptions) check() error {
	if o.Sealed == "" {
		return fault.New(fault.Usage, "--sealed is missing: which model does the adapter belong to?").
			WithHint("name the sealed model, also when the adapter was trained on the original")
	}
	switch o.To {
	case "original":
	case "sealed":
		o.ToSealed = true
	case "":
		return fault.New(fault.Usage, "--to is missing").
			WithHint("--to original if the adapter was trained on the sealed model, --to sealed if on the original")
	default:
		return fault.New(fault.Usage, "--to %s: use original or sealed", o.To)
	}
	return nil
}

func runAdapter(ctx context.Context, u *ui.UI, o adapterOptions) error {
	res, err := o.convert(ctx, u)
	if err != nil {
		return err
	}
	out := filepath.Clean(res.Output)
	object := map[string]any{
		"output": out, "to": o.To, "peft_type": res.Type, "tensors": res.Tensors, "changed": res.Changed,
		"base_model_name_or_path": res.Base, "left_out": append([]string{}, res.LeftOut...),
	}
	return u.Result(object, out, func(w io.Writer) {
		model := "the original"
		if o.ToSealed {
			model = "the sealed model"
		}
		fmt.Fprintf(w, "Converted an adapter of type %s for %s as %s: %d of %d tensors changed\n", res.Type, model, out, res.Changed, res.Tensors)
		if res.Base != "" {
			fmt.Fprintf(w, "Its adapter_config.json still names %q as the base: load it with %s\n", ui.Clean(res.Base), model)
		}
		for _, f := range res.LeftOut {
			fmt.Fprintf(w, "Left out: %s\n", f)
		}
	})
}

func (o *adapterOptions) convert(ctx context.Context, u *ui.UI) (*neuroseal.AdapterResult, error) {
	key := &keyFinder{u: u, opt: o.Key, beside: keyBeside(o.Sealed)}
	p := newStages(u)
	o.Progress, o.Notice = p, func(msg string) { u.Note("%s", msg) }
	o.AdapterOptions.Key = key.find
	var err error
	if o.Sealed, err = o.sealed(ctx, &sources{u: u, hub: &o.Hub, progress: p}); err != nil {
		p.end(false)
		return nil, err
	}
	res, err := neuroseal.ConvertAdapter(ctx, o.AdapterOptions)
	p.end(err == nil)
	return res, err
}

// sealed makes --sealed a path here. Of a model on the hub, the manifest is enough.
func (o *adapterOptions) sealed(ctx context.Context, s *sources) (string, error) {
	ref, remote, err := hub.ParseSource(o.Sealed)
	if err != nil || !remote {
		return o.Sealed, err
	}
	if ref.Path == "" {
		src, err := s.open(ctx, o.Sealed)
		if err != nil {
			return "", err
		}
		if src.path != "" { // in the cache as a whole
			return src.path, nil
		}
		if src.remote != nil {
			if err := mustBeSealed(src.remote); err != nil {
				return "", err
			}
		}
		if ref = src.ref; ref.Path == "" {
			ref.Path = manifest.Name
		}
	}
	return s.local(ctx, ref.String(), nil)
}
