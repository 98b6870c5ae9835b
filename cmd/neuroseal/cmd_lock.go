package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/seal"
)

// lockOptions are the options of lock.
type lockOptions struct {
	neuroseal.LockOptions // without key, keyslots and progress

	Slots    slotOptions
	KeyFile  string // existing key
	Detached string // file for the keyslots
	Explain  bool
	Card     string // Markdown for the model card
	Part     string // "i/n": seal this part only
	Finish   bool   // put the parts together

	Hub      hubOptions
	Registry registryOptions

	Sign signingOptions

	ownKey bool // make a key of its own, whatever the environment holds
}

func lockCommand(u *ui.UI) *cobra.Command {
	o := lockOptions{}
	var method, profile string
	var scale float64
	cmd := &cobra.Command{
		Use:   "lock SRC DST",
		Short: "Seal a checkpoint",
		Long: `Seal the checkpoint SRC into the new folder DST. SRC is only read; DST becomes
visible when it is complete.

Which weights move is derived from the network's computation graph. The profile
says where the sealed model promises to be exact: portable (bf16, fp32, fp16 and
later quantisation by others), strong (bf16, fp32, block quantisers with F32
scales) or max (bf16 and fp32 inference only).

The key: with --key-file that one, so that the same input gives the same bytes.
Otherwise a new random key, wrapped for every --recipient and for the passphrase,
if a password option names one. Without any of these (and without ` + keys.DefaultPasswordEnv + `
in the environment) the new key is written to DST.key, next to the output; keep
that file and do not publish it. A DST.key that exists is never replaced: lock
refuses, or with --force seals with the key in it. SOURCE_DATE_EPOCH sets the recorded time.

The model card, DST/README.md, is written or amended: a section between marks
tells what the seal is, what it promises and what not, with a record in YAML for
machines; the front matter gets the tags neuroseal and sealed, and base_model
where SRC is on the hub or config.json names it. What the author wrote stays, and
unlock restores it. The card may be edited after sealing: verify says so, and
unlock keeps the edit without the section. A model file on its own has no card.

` + registryHelp + `

` + sourceHelp + `

A model on the hub is sealed as it arrives: its headers are checked first; every
shard is downloaded, checked and measured; then each is sealed and its original
removed, in DST.download, so that the disk holds the output and one shard at most.
What the cache has is read there and stays; to keep the original, download it
first (hf download org/name). The same command goes on where an interrupted one
stopped; shards that it had sealed stay sealed if the key is in a file.

` + partsHelp,
		Example: `  neuroseal lock ./model ./sealed
  neuroseal lock ./model ./sealed --profile max -r age1…
  neuroseal lock org/name@main ./sealed -r age1…
  neuroseal lock ./model ./for-acme -r age1… --label Acme --registry ~/copies
  neuroseal lock ./model ./sealed --scale 100.0 --password-file pass.txt
  neuroseal lock ./model ./sealed --dry-run --explain
  neuroseal lock ./model ./sealed --key-file seal.key --card run/card.md --force
  neuroseal lock ./model ./sealed -r age1… --sign key.pem
  neuroseal lock ./model ./sealed --key-file seal.key --part 2/4
  neuroseal lock ./model ./sealed --key-file seal.key --finish`,
		Args: operands("SRC", "DST"),
	}
	f := cmd.Flags()
	f.StringVar(&method, "method", "gauge", "gauge (powers of two, exact), or the original tool's static or dynamic (real factors, which round)")
	f.StringVar(&profile, "profile", "portable", "portable, strong or max; for method gauge")
	f.Float64Var(&scale, "scale", neuroseal.DefaultScale, "factor of static, top of dynamic, bound of portable; strong and max choose their own range unless it is given")
	o.Slots.register(f, "")
	o.Registry.register(f)
	f.StringVar(&o.KeyFile, "key-file", "", "use the seal key in `FILE`, which exists")
	f.StringVar(&o.Detached, "detached-key", "", "write the keyslots to `FILE` instead of into the model")
	f.StringArrayVar(&o.Include, "include", nil, "move only groups of this kind or id, `PATTERN`; repeatable")
	f.StringArrayVar(&o.Exclude, "exclude", nil, "leave groups of this kind or id alone, `PATTERN`; repeatable")
	f.BoolVar(&o.Permute, "permute", false, "let channels, heads and experts change places, too: exact but for the order of sums; unlock restores every byte")
	f.BoolVar(&o.Signs, "signs", false, "let factors be negative, too, where the network is odd in them; as exact as without")
	f.BoolVar(&o.DryRun, "dry-run", false, "only say what would be sealed")
	f.BoolVar(&o.Explain, "explain", false, "say for every group what limits its range")
	f.BoolVar(&o.Force, "force", false, "replace DST, when the new one is complete")
	f.BoolVar(&o.AllowUnsealed, "allow-unsealed", false, "leave tensors alone that the network does not read, instead of refusing")
	f.BoolVar(&o.AllowSealed, "allow-sealed", false, "do not refuse weights that look sealed")
	f.BoolVar(&o.Unnest, "unnest", false, "expand double-quantised scales of bitsandbytes to plain ones, which factors can move; says what that costs; unlock restores every byte")
	f.BoolVar(&o.NoMetadata, "no-metadata", false, "leave the neuroseal.* keys out of the metadata of a GGUF")
	f.StringVar(&o.Graph, "graph", "", "an exported graph of the network, a .pt2 or .onnx `FILE`; for architectures without a builder")
	f.StringVar(&o.Card, "card", "", "put the card of an attack, a .md `FILE`, into the model card, too")
	f.BoolVar(&o.NoCard, "no-card", false, "leave the model card, README.md, as it is")
	f.StringVar(&o.Part, "part", "", "seal only part i of n, `I/N`, counted from 1, into DST.parts")
	o.Sign.register(f, "sign", "sign-", "sign the output with the private key in `FILE`, PEM; as neuroseal sign does")
	o.Sign.registerPassword(f, "sign-")
	o.Hub.registerToken(f)
	f.BoolVar(&o.Finish, "finish", false, "put the parts in DST.parts together as DST")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Source, o.Output = args[0], args[1]
		o.Method = seal.Method(method)
		if o.Method == seal.Gauge || f.Changed("profile") {
			o.Profile = seal.Profile(profile)
		}
		if f.Changed("scale") {
			if scale == 0 {
				return fault.New(fault.Usage, "scale 0: it must be between 2 and 1e30")
			}
			o.Scale = scale
		}
		if err := o.readCard(); err != nil {
			return err
		}
		if f.Changed("part") || o.Finish {
			if err := o.checkParts(f.Changed("part")); err != nil {
				return err
			}
		}
		if err := o.checkRegistry(f.Changed("part")); err != nil {
			return err
		}
		if err := keepOut(o.Source, "which is sealed, and would be copied into the sealed model", o.secrets()...); err != nil {
			return err
		}
		if err := keepOut(o.Output, "which is the output, and would be lost when that is replaced", o.secrets()...); err != nil {
			return err
		}
		if err := o.openSource(cmd.Context(), u); err != nil {
			return err
		}
		if f.Changed("part") {
			return runLockPart(cmd.Context(), u, o)
		}
		return runLock(cmd.Context(), u, o)
	}
	return mayExit(cmd, fault.AlreadySealed, fault.WrongKey, fault.Mismatch, fault.Unsupported, fault.NoSpace, fault.Interrupted)
}

func runLock(ctx context.Context, u *ui.UI, o lockOptions) error {
	if o.DryRun && o.Remote != nil {
		return showHeaders(ctx, u, o)
	}
	res, err := o.lock(ctx, u)
	if err != nil {
		return err
	}
	if o.DryRun {
		return showDryRun(ctx, u, o, res)
	}
	return res.show(u, o.Explain)
}

// cardLimit bounds a card, in bytes.
const cardLimit = 1 << 20

// readCard reads the card that goes into the model card, besides the section on
// the seal.
func (o *lockOptions) readCard() error {
	if o.Card == "" {
		return nil
	}
	if o.NoCard {
		return fault.New(fault.Usage, "--card and --no-card exclude each other").
			WithHint("--no-card leaves the model card as it is")
	}
	if filepath.Ext(o.Card) != ".md" {
		return fault.New(fault.Usage, "--card %s: a model card takes Markdown", o.Card).
			WithHint("neuroseal attack leaves card.md in its run folder")
	}
	section, err := os.ReadFile(o.Card)
	if err != nil {
		return fault.Wrap(fault.Usage, err, "reading the card")
	}
	if len(section) > cardLimit || !utf8.Valid(section) {
		return fault.New(fault.Usage, "--card %s: not a text of at most %d bytes", o.Card, cardLimit)
	}
	o.CardSection = section
	return nil
}

// lockOutcome is what lock reports.
type lockOutcome struct {
	*neuroseal.LockResult
	KeyFile  string // written or used
	Detached string
}

// lock makes the key and seals.
func (o *lockOptions) lock(ctx context.Context, u *ui.UI) (*lockOutcome, error) {
	if err := neuroseal.CheckPatterns(append(append([]string(nil), o.Include...), o.Exclude...)); err != nil {
		return nil, err
	}
	var err error
	if o.Time, err = sourceDate(); err != nil {
		return nil, err
	}
	o.Notice = func(msg string) { u.Note("%s", msg) }
	if o.Signer, err = o.Sign.load(u); err != nil {
		return nil, err
	}
	k := &lockKey{}
	if !o.DryRun {
		// What is wrong with the source comes before what is wrong with a key.
		if o.Remote == nil { // else it was checked before
			if err := neuroseal.CheckSource(o.Source, o.Graph, o.AllowUnsealed); err != nil {
				return nil, err
			}
		}
		if k, err = o.prepareKey(u); err != nil {
			return nil, o.sourceFirst(ctx, k, err)
		}
		o.LockOptions.Key, o.LockOptions.Slots = k.key, k.inside
		if err := o.openRegistry(u, k.key); err != nil {
			k.file.end(u, false)
			return nil, err
		}
	}
	p, begun := o.Progress.(*stages)
	if !begun {
		p = newStages(u)
		o.Progress = p
	}
	seal := neuroseal.Lock
	if o.Finish {
		seal = neuroseal.LockFinish
	}
	res, err := seal(ctx, o.LockOptions)
	p.end(err == nil)
	if err == nil || !o.keepsWork() { // else all stays as after a kill, and the next run goes on with the key
		k.file.end(u, err == nil)
	}
	if err != nil {
		o.Registry.withdraw(u)
		return nil, err
	}
	out := &lockOutcome{LockResult: res, KeyFile: k.path, Detached: k.detached}
	if o.DryRun {
		return out, nil
	}
	if k.detached != "" {
		if err := keys.WriteDetached(k.detached, keys.Detached{SealID: res.Manifest.SealID, Slots: k.slots}); err != nil {
			u.Warn("%s works, but does not name its seal: %v", k.detached, err)
		}
	}
	k.tell(u)
	o.Registry.tell(u)
	return out, nil
}

// sourceFirst is the error of a lock whose key cannot be placed: if a key file is
// in the way and the weights look sealed, that is what is wrong, and the key may
// be theirs. It reads the weights, which is why no lock begins with it.
func (o *lockOptions) sourceFirst(ctx context.Context, k *lockKey, refused error) error {
	if k == nil || k.file == nil || !k.file.taken || o.AllowSealed || o.Remote != nil {
		return refused
	}
	in, err := neuroseal.Inspect(ctx, neuroseal.InspectOptions{Path: o.Source, Graph: o.Graph, AllowUnsealed: o.AllowUnsealed, Detect: true})
	if err != nil || in.Detection == nil || !in.Detection.Sealed {
		return refused
	}
	return in.Detection.Refuse(o.Source)
}

// lockKey is the key of a new seal and where it goes.
type lockKey struct {
	key      keys.SealKey
	slots    []keys.Slot
	inside   []keys.Slot // those that stand in the manifest
	path     string      // key file written or used; "": none
	fresh    bool        // the key file is new
	detached string      // file of keyslots; "": none
	file     *beside
}

// prepareKey finds or makes the key, and puts what must not be lost on the
// disk before sealing begins.
func (o *lockOptions) prepareKey(u *ui.UI) (*lockKey, error) {
	if o.Method == seal.Static {
		if o.KeyFile != "" || o.Detached != "" || o.Slots.given() {
			return nil, fault.New(fault.Usage, "method static has one factor for all and uses no key").
				WithHint("leave the key options out, or use method dynamic or gauge")
		}
		return &lockKey{}, nil
	}
	k := &lockKey{key: keys.NewSealKey(), path: o.KeyFile, detached: o.Detached}
	if o.KeyFile != "" {
		var warning string
		var err error
		if k.key, warning, err = keys.ReadKeyFile(o.KeyFile); err != nil {
			return nil, err
		}
		if warning != "" {
			u.Warn("%s", warning)
		}
	}
	wantsPass := o.Slots.Password.given() || o.KeyFile == "" && !o.Slots.given() && !o.ownKey && fromEnvironment()
	var err error
	if k.slots, err = o.Slots.wrap(u, k.key, wantsPass, o.Time); err != nil {
		return nil, err
	}
	return k, k.place(u, o)
}

// place decides where key and keyslots go.
func (k *lockKey) place(u *ui.UI, o *lockOptions) (err error) {
	defer func() {
		if err != nil && k.file != nil && k.file.guard != nil {
			k.file.end(u, false)
		}
	}()
	switch {
	case k.detached != "" && len(k.slots) == 0:
		return fault.New(fault.Usage, "--detached-key needs keyslots to write").WithHint("give --recipient or a password option")
	case k.detached != "":
		if k.file, err = placeBeside(k.detached, o.Source, o.Output); err != nil {
			return err
		}
		return k.file.newSlots(k.slots, o.Output)
	case len(k.slots) > 0:
		k.inside = k.slots
	case k.path == "":
		k.path, k.fresh = keyBeside(o.Output), true
		if k.file, err = placeBeside(k.path, o.Source, o.Output); err != nil {
			return err
		}
		k.key, err = k.file.newKey(u, o)
	}
	return err
}

// tell says what opens the new seal.
func (k *lockKey) tell(u *ui.UI) {
	switch {
	case k.fresh:
		u.Note("the key is in %s: keep it, and do not publish it; without it nobody can unlock the model", k.path)
	case k.path != "" && len(k.slots) == 0:
		u.Note("no keyslot is stored: unlocking needs the key file %s", k.path)
	case k.detached != "":
		u.Note("the keyslots are in %s: unlocking needs that file", k.detached)
	}
}

// sourceDate is the time that SOURCE_DATE_EPOCH sets, else now.
func sourceDate() (time.Time, error) {
	text, ok := os.LookupEnv("SOURCE_DATE_EPOCH")
	if !ok || text == "" {
		return time.Now(), nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > 253402300799 { // the last second that RFC 3339 can write
		return time.Time{}, fault.New(fault.Usage, "SOURCE_DATE_EPOCH is %q, not a number of seconds since 1970", text)
	}
	return time.Unix(n, 0), nil
}
