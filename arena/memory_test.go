package arena

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFreeMemory(t *testing.T) {
	const meminfo = "MemTotal:  99999 kB\nMemAvailable:  1000 kB\n"
	const v2, v1 = "sys/fs/cgroup/", "sys/fs/cgroup/memory/"
	none := "9223372036854771712\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  int64 // before the part that is kept back; 0: nobody says
	}{
		{"nothing", map[string]string{}, 0},
		{"no group", map[string]string{"proc/meminfo": meminfo}, 1000 << 10},
		{"v2, the mount itself", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n",
			v2 + "memory.max": "500000\n", v2 + "memory.current": "100000\n"}, 400000},
		{"v2, nested, own limit", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a/b\n",
			v2 + "a/memory.max": "900000", v2 + "a/memory.current": "100000",
			v2 + "a/b/memory.max": "300000", v2 + "a/b/memory.current": "100000"}, 200000},
		{"v2, nested, limit above", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a/b/c\n",
			v2 + "a/memory.max": "200000", v2 + "a/memory.current": "50000",
			v2 + "a/b/memory.max": "max\n", v2 + "a/b/memory.current": "50000",
			v2 + "a/b/c/memory.max": "800000", v2 + "a/b/c/memory.current": "50000"}, 150000},
		{"v2, the host's path in a container", map[string]string{"proc/self/cgroup": "0::/docker/0123\n",
			v2 + "memory.max": "500000", v2 + "memory.current": "400000"}, 100000},
		{"v2, a path out of the namespace", map[string]string{"proc/self/cgroup": "0::/../../x\n",
			v2 + "memory.max": "500000", v2 + "memory.current": "400000"}, 100000},
		{"v2, used up", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n",
			v2 + "memory.max": "100", v2 + "memory.current": "200"}, 1},
		{"v2, no limit", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a\n",
			v2 + "a/memory.max": "max\n", v2 + "a/memory.current": "100000"}, 1000 << 10},
		{"v1", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "9:name=systemd:/s\n4:cpu,memory:/a/b\n0::/\n",
			v1 + "memory.limit_in_bytes": none, v1 + "memory.usage_in_bytes": "999",
			v1 + "a/memory.limit_in_bytes": "700000\n", v1 + "a/memory.usage_in_bytes": "100000\n",
			v1 + "a/b/memory.limit_in_bytes": none, v1 + "a/b/memory.usage_in_bytes": "10\n"}, 600000},
		{"v1, no limit", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "4:memory:/a\n",
			v1 + "a/memory.limit_in_bytes": none, v1 + "a/memory.usage_in_bytes": "999"}, 1000 << 10},
		{"both", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "4:memory:/a\n0::/u\n",
			v1 + "a/memory.limit_in_bytes": "700000", v1 + "a/memory.usage_in_bytes": "0",
			v2 + "unified/u/memory.max": "300000", v2 + "unified/u/memory.current": "0"}, 300000},
		{"not as expected", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "x\n0:\n0::\n:memory:a:b\n",
			v2 + "memory.max": "", v2 + "memory.current": "-5"}, 1000 << 10},
	} {
		root := t.TempDir()
		for name, text := range c.files {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want := c.want / 10 * 8
		if c.want > 0 {
			want = max(want, 1)
		}
		if got := freeMemory(root); got != want {
			t.Errorf("%s: %d bytes, want %d", c.name, got, want)
		}
	}
}
