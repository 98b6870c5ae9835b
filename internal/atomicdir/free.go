package atomicdir

import "path/filepath"

// Free returns the bytes that this user may still write to the file system that
// holds path, or would hold it.
func Free(path string) (int64, error) {
	path, err := resolve(path)
	if err != nil {
		return 0, err
	}
	for !exists(path) && filepath.Dir(path) != path {
		path = filepath.Dir(path)
	}
	n, err := free(path)
	return n, wrap(err, "asking for free space at "+path)
}
