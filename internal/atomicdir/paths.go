package atomicdir

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// CheckName refuses a relative, slash-separated name that is not clean, that
// leaves its folder, or that another operating system would read differently.
func CheckName(rel string) error {
	local := filepath.FromSlash(rel)
	if rel == "" || rel == "." || strings.ContainsAny(rel, "\\\x00") || !filepath.IsLocal(local) ||
		filepath.ToSlash(filepath.Clean(local)) != rel || len(rel) > 1 && rel[1] == ':' {
		return fault.New(fault.Unsupported, "file name %q is not a plain relative path", rel).
			WithHint("the name would lie outside its folder; do not trust this checkpoint")
	}
	return nil
}

// resolve makes path absolute and follows the symbolic links in it, as far as
// it exists.
func resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", wrap(err, "resolving output")
	}
	if path == "" || filepath.Dir(abs) == abs {
		return "", fault.New(fault.Usage, "%q cannot be an output", path)
	}
	real, err := filepath.EvalSymlinks(abs)
	if err == nil {
		return real, nil
	}
	if !os.IsNotExist(err) {
		return "", wrap(err, "resolving output")
	}
	if info, err := os.Lstat(abs); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return "", fault.New(fault.Usage, "output %s is a symbolic link to nothing", path)
	}
	if dir := filepath.Dir(abs); filepath.Dir(dir) != dir {
		if dir, err = resolve(dir); err != nil {
			return "", err
		}
		return filepath.Join(dir, filepath.Base(abs)), nil
	}
	return abs, nil
}

// refusePrecious stops --force from replacing folders that nobody means.
func refusePrecious(dst string) error {
	home, _ := os.UserHomeDir()
	wd, _ := os.Getwd()
	for what, path := range map[string]string{"home folder": home, "current folder": wd} {
		if path == "" {
			continue
		}
		if inside, err := Within(path, dst); err == nil && inside {
			return fault.New(fault.Usage, "output %s holds the %s and is not replaced", dst, what).
				WithHint("choose another output folder")
		}
	}
	return nil
}

// Within reports whether path is dir or lies below it, by the identity of the
// folders and not by their names. What of path does not exist yet is judged by
// its parent.
func Within(path, dir string) (bool, error) {
	want, err := os.Stat(dir)
	if os.IsNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, wrap(err, "comparing folders")
	}
	if path, err = resolve(path); err != nil {
		return false, err
	}
	for {
		if info, err := os.Stat(path); err == nil && os.SameFile(info, want) {
			return true, nil
		}
		parent := filepath.Dir(path)
		if parent == path {
			return false, nil
		}
		path = parent
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// renamesOpen reports whether an open file can be renamed.
const renamesOpen = runtime.GOOS != "windows"
