package modelcard

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/neuroseal/neuroseal/manifest"
)

// Tags are the tags of a sealed model's card.
func Tags() []string { return []string{"neuroseal", "sealed"} }

// The methods that a card tells apart.
const (
	gauge  = "gauge"
	static = "static"
)

// Section writes the seal's section: what it is, the record for machines, the
// promise, the limits, and the commands. The manifest must be complete but for
// its MAC and keyslots, of which it says nothing. base is the id of what was
// sealed, as in [Additions].
func Section(m *manifest.Manifest, base string) []byte {
	var b strings.Builder
	b.WriteString("## Sealed with NeuroSeal\n\n" + lead(m) + "\n\n```yaml\n")
	writeRecord(&b, m, base)
	b.WriteString("```\n\n")
	writePromise(&b, m)
	writeLimits(&b, m)
	writeCommands(&b, m)
	return []byte(b.String())
}

// lead says in two sentences what the seal is.
func lead(m *manifest.Manifest) string {
	const aim = "It is meant to hinder ordinary fine-tuning of the weights; how much it does depends on profile, method and training."
	if m.Method != gauge {
		return "The weights of this model are multiplied by factors that cancel out inside the network, so that it gives the original's answers up to rounding. " + aim
	}
	moved := "powers of two"
	if slices.ContainsFunc(m.Groups, func(g manifest.Group) bool { return g.Signs }) {
		moved += ", some with a minus sign,"
	}
	if m.Permute != nil {
		moved = strings.TrimSuffix(moved, ",") + ", and change places, in ways"
	}
	answers := "the original's answers bit for bit"
	if m.Promise.Reordered {
		answers = "the original's answers but for the order in which sums are taken"
	}
	return "The weights of this model are multiplied by " + moved + " that cancel out inside the network, so that it gives " + answers + ". " + aim
}

// writeRecord writes the seal as YAML. Strings are quoted as in JSON, which is
// YAML, too.
func writeRecord(b *strings.Builder, m *manifest.Manifest, base string) {
	line := func(key string, v any) {
		text, _ := json.Marshal(v) // strings, numbers, truth values and lists of strings
		fmt.Fprintf(b, "%s: %s\n", key, text)
	}
	text := func(key, v string) {
		if v != "" {
			line(key, v)
		}
	}
	b.WriteString("neuroseal:\n")
	text("  seal_id", m.SealID)
	text("  method", m.Method)
	text("  profile", m.Profile)
	text("  tool", m.Tool)
	text("  model_type", m.ModelType)
	text("  base_model", base)
	text("  original_digest", m.OriginalDigest)
	line("  coverage", m.Coverage)
	line("  free_dims", m.FreeDims)
	line("  holes", len(m.Holes))
	b.WriteString("  promise:\n")
	line("    bit_exact", list(m.Promise.BitExact))
	line("    runs", list(m.Promise.Runs))
	line("    quantisers", list(m.Promise.Quantisers))
	line("    reversible", m.Promise.Reversible)
	line("    reordered", m.Promise.Reordered)
}

// list is a list that is not null.
func list(items []string) []string { return append([]string{}, items...) }

func writePromise(b *strings.Builder, m *manifest.Manifest) {
	b.WriteString("What it promises:\n\n")
	switch p := m.Promise; {
	case len(p.BitExact) == 0:
		b.WriteString("- Outputs are the original's up to rounding.\n")
	case p.Reordered:
		fmt.Fprintf(b, "- Outputs in %s are the original's, but for the order in which sums are taken.\n", strings.Join(p.BitExact, ", "))
	default:
		fmt.Fprintf(b, "- Outputs in %s are the original's, bit for bit.\n", strings.Join(p.BitExact, ", "))
	}
	if r := m.Promise.Runs; len(r) > 0 {
		fmt.Fprintf(b, "- The model's values stay finite in %s.\n", strings.Join(r, ", "))
	}
	if q := m.Promise.Quantisers; len(q) > 0 {
		fmt.Fprintf(b, "- The model may be quantised later by: %s.\n", strings.Join(q, "; "))
	} else {
		b.WriteString("- Nothing is promised about later quantisation by others.\n")
	}
	if m.Promise.Reversible {
		b.WriteString("- The key restores the original, byte for byte.\n")
	} else {
		b.WriteString("- Unlocking restores the original up to rounding, not byte for byte.\n")
	}
	b.WriteByte('\n')
}

func writeLimits(b *strings.Builder, m *manifest.Manifest) {
	b.WriteString("Limits:\n\n" +
		"- A seal is friction, not protection: whoever knows how evens the factors out again without any key, in minutes, and then trains as on the original.\n" +
		"- Methods that train activations or prompts instead of weights (IA3, soft prompts, prefix tuning, steering) work as on the original.\n" +
		"- Nothing is hidden or encrypted; the model is as capable as the original.\n")
	fmt.Fprintf(b, "- %s of the parameters are moved by the seal; %s\n\n", percent(m.Coverage), holes(len(m.Holes)))
}

func holes(n int) string {
	switch n {
	case 0:
		return "every tensor is among them, at least in part."
	case 1:
		return "1 tensor is not touched at all (`neuroseal inspect` names it), and training it alone is as easy as before."
	}
	return fmt.Sprintf("%d tensors are not touched at all (`neuroseal inspect` names them), and training those alone is as easy as before.", n)
}

// percent writes a share, rounded down so that only all is 100%.
func percent(x float64) string {
	tenths := math.Floor(x*1000 + 1e-9) // 0.57 × 1000 is a little less than 570
	if x < 1 {
		tenths = min(tenths, 999)
	}
	return strconv.FormatFloat(tenths/10, 'f', -1, 64) + "%"
}

func writeCommands(b *strings.Builder, m *manifest.Manifest) {
	b.WriteString("To check the files in the model's folder against the record of the seal, and to take it off:\n\n```sh\nneuroseal verify .\nneuroseal unlock . ../original")
	if m.Method != static {
		b.WriteString(" --key-file seal.key   # or --identity FILE, or a passphrase")
	}
	b.WriteString("\n```\n\nWhat people add to this page outside of this section is kept by `unlock`, which takes the section out.\n")
}
