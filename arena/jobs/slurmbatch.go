package jobs

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// maxRemarks bounds what is copied of a Slurm output file, in bytes.
const maxRemarks = 64 << 10

// write makes the folder of a new batch. Everything is in it before sbatch is
// called, so that a later run can tell from a task's array and index what it is.
func (c *slurm) write(tasks []*task) (*batch, error) {
	random := randomName(4)
	b := &batch{name: "neuroseal-" + tasks[0].run + "-" + random, folder: filepath.Join(c.folder, random), tasks: tasks}
	err := os.MkdirAll(b.folder, 0o700)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "making a batch's folder")
	}
	digests := make([]string, len(tasks))
	for i, t := range tasks {
		digests[i] = t.digest
		script, err := taskScript(t)
		if err == nil {
			err = b.put(strconv.Itoa(i)+".sh", script)
		}
		if err != nil {
			return nil, err
		}
	}
	list, err := json.Marshal(digests)
	if err == nil {
		err = errors.Join(b.put("tasks.json", string(list)), b.put("batch.sh", b.script()))
	}
	return b, err
}

// put writes a file that may hold secrets of a job's environment.
func (b *batch) put(name, text string) error {
	if err := os.WriteFile(filepath.Join(b.folder, name), []byte(text), 0o600); err != nil {
		return fault.Wrap(fault.General, err, "writing a batch")
	}
	return nil
}

// output is the pattern of the files in which Slurm keeps what it says itself.
// Slurm replaces %x in the whole path, and takes a backslash for a sign to
// replace nothing: then it has to be silent.
func (b *batch) output() string {
	if strings.Contains(b.folder, `\`) {
		return os.DevNull
	}
	return strings.ReplaceAll(b.folder, "%", "%%") + "/slurm-%A_%a.out"
}

// script is what sbatch gets: it runs the script of one task and notes how that
// ended, for clusters that keep no accounts. A task that is killed notes nothing.
func (b *batch) script() string {
	return "#!/bin/sh\n" +
		"folder=" + quote(b.folder) + "\n" +
		"task=$SLURM_ARRAY_TASK_ID\n" +
		"/bin/sh \"$folder/$task.sh\"\n" +
		"code=$?\n" +
		"echo $code >\"$folder/$task.part\" && mv \"$folder/$task.part\" \"$folder/$task.exit\"\n" +
		"exit $code\n"
}

// taskScript runs one job, whatever bytes its arguments hold.
func taskScript(t *task) (string, error) {
	dir := t.Dir
	if dir == "" {
		var err error
		if dir, err = os.Getwd(); err != nil {
			return "", fault.Wrap(fault.General, err, "job %s", t.Name)
		}
	}
	return "exec >>" + quote(t.log) + " 2>&1\n" + exports(t.Env) + changeDir(dir) + command(t.Argv) + "\n", nil
}

// readBatch returns the digests of a batch's jobs, by array index.
func readBatch(folder string) ([]string, error) {
	path := filepath.Join(folder, "tasks.json")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return []string{}, nil // somebody cleared the folder: nothing to adopt
	}
	var digests []string
	if err == nil {
		err = json.Unmarshal(b, &digests)
	}
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "reading %s", path)
	}
	return digests, nil
}

// exitCode returns what the script of a task noted.
func exitCode(folder, id string) (code int, known bool) {
	b, err := os.ReadFile(filepath.Join(folder, index(id)+".exit"))
	if err != nil {
		return 0, false
	}
	code, err = strconv.Atoi(strings.TrimSpace(string(b)))
	return code, err == nil
}

// index is the array index in the id of a task.
func index(id string) string { return id[strings.LastIndexByte(id, '_')+1:] }

// remarks appends what Slurm said of a task ("killed for want of memory", "due
// to time limit") to the job's log.
func (b *batch) remarks(t *task) error {
	f, err := os.Open(filepath.Join(b.folder, "slurm-"+t.id+".out"))
	if err != nil {
		return nil // no task was started, or nothing said
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRemarks))
	if err != nil || len(text) == 0 {
		return nil
	}
	return appendLog(t.log, string(text))
}
