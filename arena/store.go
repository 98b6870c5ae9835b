package arena

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// trialsFile holds a run's finished trials, one JSON object per line.
const trialsFile = "trials.jsonl"

// lockName is held by the process that adds to a run.
const lockName = ".neuroseal-lock"

// Store is the finished trials of a run folder. Each is appended as one line and
// brought to disk before the next begins, so an interruption loses no finished
// trial. Its methods may be called from several goroutines.
type Store struct {
	mu   sync.Mutex
	f    *os.File
	free func()
	end  int64 // of the last whole line
	byID map[string]*Result
	all  []*Result
}

// OpenStore opens or creates a run folder's trials. A last line without its end,
// as a full disk or a killed program leaves it, is cut off.
func OpenStore(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fault.Wrap(fault.General, err, "creating the run folder")
	}
	path := filepath.Join(dir, trialsFile)
	free, err := atomicdir.Hold(filepath.Join(dir, lockName))
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		free()
		return nil, fault.Wrap(fault.General, err, "opening the run's trials")
	}
	s := &Store{f: f, free: free, byID: map[string]*Result{}}
	end, err := s.read(f, path)
	if err == nil {
		s.end = end
		err = f.Truncate(end)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Begun reports whether a folder holds no more than a run that was stopped
// before its first trial.
func Begun(dir string) bool {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		info, err := e.Info()
		switch {
		case err != nil:
			return false
		case e.Name() == trialsFile && info.Size() == 0, e.Name() == lockName, e.Name() == "prepared" && e.IsDir():
		default:
			return false
		}
	}
	return true
}

// ReadResults reads the finished trials of a run folder.
func ReadResults(dir string) ([]Result, error) {
	path := filepath.Join(dir, trialsFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.Usage, err, "%s is no run folder", dir).WithHint("neuroseal attack MODEL OUT makes one")
	}
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "opening the run's trials")
	}
	defer f.Close()
	s := &Store{byID: map[string]*Result{}}
	if _, err := s.read(f, path); err != nil {
		return nil, err
	}
	out := make([]Result, len(s.all))
	for i, r := range s.all {
		out[i] = *r
	}
	return out, nil
}

// lineLimit bounds one trial's line.
const lineLimit = 64 << 20

// read takes in all complete lines and returns where they end.
func (s *Store) read(f *os.File, path string) (end int64, err error) {
	in := bufio.NewReaderSize(f, 1<<16)
	for n := 1; ; n++ {
		line, err := readLine(in)
		if errors.Is(err, io.EOF) {
			return end, nil
		}
		if err != nil {
			return 0, fault.Wrap(fault.General, err, "%s, line %d", path, n)
		}
		r := new(Result)
		if err := json.Unmarshal(line, r); err != nil {
			return 0, fault.Wrap(fault.Mismatch, err, "%s, line %d, is no trial", path, n).
				WithHint("remove the line: its trial will be run again")
		}
		if r.ID != r.Trial.ID() {
			return 0, fault.New(fault.Mismatch, "%s, line %d: the trial is %s, the line says %s", path, n, r.Trial.ID(), r.ID).
				WithHint("it was edited, or written by another version of the tool; take a new run folder")
		}
		s.add(r)
		end += int64(len(line))
	}
}

// readLine returns a line with its end; io.EOF if there is no complete one.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(line) > lineLimit:
			return nil, fault.New(fault.Mismatch, "a line of more than %d bytes", lineLimit)
		}
	}
}

func (s *Store) add(r *Result) {
	if s.byID[r.ID] == nil {
		s.all = append(s.all, r)
		s.byID[r.ID] = r
	}
}

// Get returns a finished trial, or nil.
func (s *Store) Get(id string) *Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byID[id]
}

// All returns the finished trials in the order in which they were found.
func (s *Store) All() []*Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Result(nil), s.all...)
}

// Append adds a finished trial and brings it to disk.
func (s *Store) Append(r *Result) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return fault.Wrap(fault.General, err, "trial %s", r.ID)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[r.ID] != nil {
		return nil
	}
	line := append(raw, '\n')
	if _, err = s.f.WriteAt(line, s.end); err == nil {
		err = s.f.Sync()
	}
	if err != nil {
		// Part of a line would spoil what other trials append; if even this
		// fails, the next OpenStore cuts it off.
		_ = s.f.Truncate(s.end)
		return fault.Wrap(fault.General, err, "writing trial %s", r.ID).WithHint("make room and run the command again: finished trials are kept")
	}
	s.end += int64(len(line))
	s.add(r)
	return nil
}

// Close closes the file and lets other processes have the run folder.
func (s *Store) Close() error {
	err := s.f.Close()
	s.free()
	return err
}
