package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/hub"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/modelcard"
)

// hubOptions say how to reach the hub; the environment says the rest.
type hubOptions struct {
	token   string
	workers int
}

// register adds the flags, named as those of the hub's own command.
func (o *hubOptions) register(f *pflag.FlagSet) {
	f.StringVar(&o.token, "token", "", "a `TOKEN` of the hub, if HF_TOKEN is not set; other users see it in the list of processes")
	f.IntVar(&o.workers, "max-workers", 8, "connections to the hub at once")
}

// client returns a client of the hub that shows its progress as p.
func (o *hubOptions) client(u *ui.UI, p hub.Progress) (*hub.Client, error) {
	if o.workers < 1 || o.workers > 64 {
		return nil, fault.New(fault.Usage, "--max-workers %d: use 1 to 64", o.workers)
	}
	cfg, warning, err := hub.FromEnv(os.Getenv, o.token)
	if warning != "" {
		u.Warn("%s", warning)
	}
	if err != nil {
		return nil, err
	}
	cfg.Workers, cfg.Progress = o.workers, p
	cfg.Notice = func(msg string) { u.Note("%s", msg) }
	return hub.New(cfg)
}

// pushOptions are the options of push.
type pushOptions struct {
	hub.PushOptions
	Hub      hubOptions
	Unsealed bool
}

func pushCommand(u *ui.UI) *cobra.Command {
	o := pushOptions{}
	var kind, revision string
	cmd := &cobra.Command{
		Use:   "push DIR REPO",
		Short: "Publish a sealed checkpoint on the Hugging Face hub",
		Long: `Publish the folder DIR as REPO (org/name, or hf://org/name[@branch]) on the Hugging
Face hub, in one commit. The repository is created if it does not exist. Files
that the hub has already are not sent again; so the same command goes on where an
interrupted one stopped, and changes nothing when there is nothing to change.

DIR must be sealed (--unsealed publishes any folder), and its weights must be those
that lock wrote: original ones that got into it are not published. A folder that holds a seal
key, an age identity or another private key is refused.

The token comes from HF_TOKEN, from --token, or from the file that "hf auth login"
writes. HF_ENDPOINT, HF_HOME, HF_TOKEN_PATH and HF_HUB_OFFLINE are honoured.`,
		Example: `  neuroseal push ./sealed my-org/my-model-sealed --private
  neuroseal push ./sealed my-org/my-model-sealed --dry-run
  neuroseal push ./sealed somebody/model --create-pr --commit-message "Sealed weights"`,
		Args: operands("DIR", "REPO"),
	}
	f := cmd.Flags()
	f.StringVar(&kind, "repo-type", "model", "model; the hub's other kinds are not for checkpoints")
	f.StringVar(&revision, "revision", "", "a `BRANCH` that exists; without it main")
	f.StringArrayVar(&o.Include, "include", nil, "only files that match the `PATTERN`; repeatable")
	f.StringArrayVar(&o.Exclude, "exclude", nil, "no files that match the `PATTERN`; repeatable")
	f.StringArrayVar(&o.Delete, "delete", nil, "in the same commit, remove files from the hub that match the `PATTERN` and are not in DIR; repeatable")
	f.BoolVar(&o.Private, "private", false, "the repository, if it is created, is private")
	f.BoolVar(&o.CreatePR, "create-pr", false, "propose the commit as a pull request")
	f.StringVar(&o.Message, "commit-message", "", "first `LINE` of the commit message")
	f.StringVar(&o.Description, "commit-description", "", "rest of the commit message")
	f.BoolVar(&o.DryRun, "dry-run", false, "show what would be sent, and change nothing")
	f.BoolVar(&o.Unsealed, "unsealed", false, "publish a folder that is not sealed")
	o.Hub.register(f)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if kind != "model" {
			return fault.New(fault.Usage, "--repo-type %s: only models are pushed", kind)
		}
		ref, err := hub.ParseRef(args[1])
		if err != nil {
			return err
		}
		if revision != "" {
			if ref.Revision != "" {
				return fault.New(fault.Usage, "%s names a revision, and --revision another", args[1])
			}
			if ref, err = hub.ParseRef("hf://" + ref.ID + "@" + revision); err != nil {
				return err
			}
		}
		o.Folder, o.Repo = args[0], ref
		return runPush(cmd.Context(), u, o)
	}
	return mayExit(cmd, fault.NotSealed, fault.Mismatch, fault.Unsupported, fault.Interrupted)
}

func runPush(ctx context.Context, u *ui.UI, o pushOptions) error {
	if !o.Unsealed {
		man, _, err := neuroseal.ReadManifest(o.Folder)
		if err != nil {
			return fault.Wrap(fault.KindOf(err), err, "").WithHint("seal it first (neuroseal lock), or publish it as it is with --unsealed")
		}
		// What the seal changed, above all: the weights.
		o.Want = map[string]string{}
		for _, f := range man.Files {
			if f.SHA256 != f.Original && f.Path != modelcard.Name && f.Path != "config.json" {
				o.Want[f.Path] = f.SHA256
			}
		}
	}
	o.Inspect = refuseSecrets
	p := newStages(u)
	c, err := o.Hub.client(u, p.to)
	if err != nil {
		p.end(false)
		return err
	}
	res, err := c.Push(ctx, o.PushOptions)
	p.end(false)
	if fault.KindOf(err) == fault.Mismatch && fault.HintOf(err) == "" {
		return fault.Wrap(fault.Mismatch, err, "").WithHint("neuroseal verify %s tells what is not as it was sealed", o.Folder)
	}
	if err != nil {
		return err
	}
	return u.Result(struct {
		*hub.PushResult
		DryRun bool `json:"dry_run"`
	}{res, o.DryRun}, pushed(res), func(w io.Writer) { writePush(w, res, o.DryRun) })
}

// secrets are what the files of private keys hold near their beginning.
var secrets = [][]byte{[]byte("NEUROSEAL-SECRET-KEY-1"), []byte("AGE-SECRET-KEY-"), []byte("AGE-PLUGIN-"), []byte("PRIVATE KEY-----")}

// refuseSecrets stops the one mistake that a push cannot take back.
func refuseSecrets(path string, head []byte) error {
	for _, s := range secrets {
		if bytes.Contains(head, s) {
			return fault.New(fault.Usage, "%s looks like a private key; nothing was published", path).
				WithHint("move it away, or leave it out with --exclude")
		}
	}
	return nil
}

// pushed is what -q prints: where the result is.
func pushed(r *hub.PushResult) string {
	switch {
	case r.PullRequest != "":
		return r.PullRequest
	case r.URL != "":
		return r.URL
	}
	return r.Repo
}

func writePush(w io.Writer, r *hub.PushResult, dry bool) {
	count, bytes := map[string]int{}, int64(0)
	rows := [][]string{{"FILE", "SIZE", "AS", "STATE"}}
	for _, f := range r.Files {
		count[f.State]++
		if f.State == "new" || f.State == "changed" {
			bytes += f.Size
		}
		rows = append(rows, []string{f.Path, ui.Bytes(f.Size), f.Mode, f.State})
	}
	if dry {
		if r.Created {
			fmt.Fprintf(w, "%s does not exist and would be created\n", r.Repo)
		}
		ui.Table(w, "  ", rows)
		fmt.Fprintf(w, "%d files would be sent (%s), less what the hub's storage has already; %d are unchanged\n",
			count["new"]+count["changed"], ui.Bytes(bytes), count["unchanged"])
		for _, path := range r.Deleted {
			fmt.Fprintf(w, "%s would be removed\n", path)
		}
		return
	}
	if r.Unchanged {
		fmt.Fprintf(w, "%s holds all %d files already; nothing was sent\n", r.Repo, len(r.Files))
		return
	}
	if r.Created {
		fmt.Fprintf(w, "Created %s\n", r.Repo)
	}
	fmt.Fprintf(w, "Published %d files (%s) in one commit: %s of large files sent, %s already there; %d unchanged, %d removed\n",
		count["new"]+count["changed"], ui.Bytes(bytes), ui.Bytes(r.Uploaded), ui.Bytes(r.Reused), count["unchanged"], len(r.Deleted))
	fmt.Fprintln(w, pushed(r))
}
