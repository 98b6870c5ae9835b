package hub

import (
	"context"
	"os"
	"path/filepath"
	"time"
)

// lockBlob takes the lock that huggingface_hub takes before it writes a blob,
// and waits while another process has it. The lock file stays, as filelock
// leaves it.
func (c *Client) lockBlob(ctx context.Context, id, etag string) (release func(), err error) {
	path := filepath.Join(c.cfg.Cache, ".locks", filepath.Base(c.repoFolder(id)), etag+".lock")
	told := time.Now()
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o664)
		if err != nil {
			return nil, cacheError(err)
		}
		ok, err := tryLock(f)
		if err != nil {
			f.Close()
			return nil, cacheError(err)
		}
		if ok && same(f, path) {
			return func() { unlock(f); f.Close() }, nil
		}
		f.Close()
		if time.Since(told) > 10*time.Second {
			told = time.Now()
			c.notice("another process is downloading the same file; waiting (%s)", path)
		}
		if err := c.sleep(ctx, 50*time.Millisecond); err != nil {
			return nil, interrupted(ctx)
		}
	}
}

// same reports whether path still is the file that was opened: some versions of
// filelock remove lock files.
func same(f *os.File, path string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}
