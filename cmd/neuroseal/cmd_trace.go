package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/spf13/cobra"

	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/trace"
)

// traceOptions are the options of trace.
type traceOptions struct {
	trace.Options // without registry and progress

	Registry   string
	Identities []string
	Hub        hubOptions
}

func traceCommand(u *ui.UI) *cobra.Command {
	o := traceOptions{}
	cmd := &cobra.Command{
		Use:   "trace LEAKED --registry DIR",
		Short: "Say from which registered copy a leaked checkpoint was made",
		Long: `Say from which copy in a registry the checkpoint LEAKED was made. Copies are
registered when they are sealed, one key each: lock --label NAME --registry DIR.

LEAKED may have been trained further, merged with adapters, pruned, converted or
quantised by others; it is read as safetensors, quantised or not, GGUF or ONNX. With
--original, the checkpoint that was sealed, less has to be left of the seal.

Every answer comes with a bound on the probability that it is false, which holds
for all registered copies together and for any weights. Above --alpha nobody is
named. Where the seals have too few free factors to tell copies apart, it says so.

What it does not prove: whoever re-balances the weights (undo --no-key) removes the
seal's pattern, and trace then answers none. And a registry says what its owner
wrote into it.

` + sourceHelp,
		Example: `  neuroseal lock ./model ./for-acme -r age1… --label Acme --registry ~/copies
  neuroseal trace ./leaked --registry ~/copies --original ./model
  neuroseal trace somebody/a-model --registry ~/copies
  neuroseal trace leaked.Q4_K_M.gguf --registry ~/copies -i me.txt --json`,
		Args: operands("LEAKED"),
	}
	f := cmd.Flags()
	f.StringVar(&o.Registry, "registry", "", "the registry in `DIR`; required")
	f.StringVar(&o.Original, "original", "", "compare with the checkpoint that was sealed, `ORIG`")
	f.Float64Var(&o.Alpha, "alpha", trace.DefaultAlpha, "largest probability of a false answer, over all copies, `P`")
	f.StringArrayVarP(&o.Identities, "identity", "i", nil, "age identity or SSH private key in `FILE` that opens a registry with wrapped keys; repeatable")
	o.Hub.registerToken(f)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Leaked = args[0]
		if o.Alpha == 0 {
			return fault.New(fault.Usage, "--alpha 0: it is a probability above 0 and below 1")
		}
		return runTrace(cmd.Context(), u, o)
	}
	return mayExit(cmd, fault.WrongKey, fault.Mismatch, fault.Unsupported, fault.Interrupted)
}

func runTrace(ctx context.Context, u *ui.UI, o traceOptions) error {
	if o.Registry == "" {
		return fault.New(fault.Usage, "trace needs --registry").WithHint("name the folder that was given to lock --registry")
	}
	reg, warning, err := trace.OpenRegistry(o.Registry, false)
	if err != nil {
		return err
	}
	if warning != "" {
		u.Warn("%s", warning)
	}
	o.Options.Registry = reg
	finder := keyFinder{u: u, opt: keyOptions{Identities: o.Identities}}
	ids, err := finder.identities()
	if err != nil {
		return err
	}
	if len(ids) > 0 {
		o.Open = func(slots []keys.Slot) (keys.SealKey, error) {
			k, _, err := keys.Unwrap(slots, ids, nil)
			return k, err
		}
	}
	named := o.Leaked
	res, err := o.trace(ctx, u)
	if err != nil {
		return err
	}
	return u.Result(res, answer(res), func(w io.Writer) { showTrace(w, named, res) })
}

// trace makes both checkpoints paths here, and compares.
func (o *traceOptions) trace(ctx context.Context, u *ui.UI) (res *trace.Result, err error) {
	p := newStages(u)
	defer func() { p.end(err == nil) }()
	o.Progress = p
	s := &sources{u: u, hub: &o.Hub, progress: p}
	if o.Leaked, err = s.local(ctx, o.Leaked, nil); err != nil {
		return nil, err
	}
	if o.Original, err = s.local(ctx, o.Original, nil); err != nil {
		return nil, err
	}
	return trace.Trace(ctx, o.Options)
}

// answer is the result in one line: the labels, or the verdict.
func answer(r *trace.Result) string {
	if len(r.Matches) == 0 {
		return string(r.Verdict)
	}
	var labels []string
	for _, m := range r.Matches {
		labels = append(labels, m.Label)
	}
	return strings.Join(labels, "\n")
}

func showTrace(w io.Writer, leaked string, r *trace.Result) {
	switch {
	case r.Verdict == trace.Impossible:
		fmt.Fprintf(w, "Cannot tell: too few free factors show in %s to tell every one of %s: at best p ≤ %s, and %s is asked for\n",
			leaked, copies(r.Registered), power(r.Log10AtBest), power(math.Log10(r.Alpha)))
		return
	case len(r.Matches) == 0:
		fmt.Fprintf(w, "None: %s shows no trace of %s\n", leaked, copies(r.Registered))
		fmt.Fprintf(w, "A copy whose factors are all there would show with p ≤ %s. Re-balanced weights show none: this does not clear anybody.\n", power(r.Log10AtBest))
		if n := r.Next; n != nil && n.P < 1 {
			fmt.Fprintf(w, "  closest: %s, %d of %d, p ≤ %s: no proof\n", n.Label, n.Agreeing, n.Classes, power(n.Log10P))
		}
		return
	case len(r.Matches) == 1:
		fmt.Fprintf(w, "%s was made from the copy of %s\n", leaked, r.Matches[0].Label)
	default:
		fmt.Fprintf(w, "%s was made from %d copies together\n", leaked, len(r.Matches))
	}
	for _, m := range r.Matches {
		fmt.Fprintf(w, "  %s (seal %s): %d of %d factors agree; probability of a false answer, over %s, at most %s\n",
			m.Label, m.SealID, m.Agreeing, m.Classes, copies(r.Registered), power(m.Log10P))
	}
	if r.Next != nil {
		fmt.Fprintf(w, "  next: %s, %d of %d, p ≤ %s\n", r.Next.Label, r.Next.Agreeing, r.Next.Classes, power(r.Next.Log10P))
	}
}

func copies(n int) string {
	if n == 1 {
		return "1 registered copy"
	}
	return fmt.Sprintf("%d registered copies", n)
}

// power writes a probability that may be too small for a floating-point number,
// rounded up.
func power(log10 float64) string {
	if log10 > -3 {
		return fmt.Sprintf("%.2g", math.Pow(10, log10))
	}
	e := math.Floor(log10)
	m := math.Ceil(math.Pow(10, log10-e)*10) / 10
	if m >= 10 {
		m, e = 1, e+1
	}
	return fmt.Sprintf("%.1fe%+03d", m, int(e))
}
