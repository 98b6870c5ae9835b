package checkpoint

import (
	"bytes"
	"testing"
)

func TestClassify(t *testing.T) {
	big := func(b string) []byte { return append([]byte(b), make([]byte, suspectSize)...) }
	text := bytes.Repeat([]byte("token\n"), suspectSize/4)
	for _, tt := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"config.json", big("{}"), ""},
		{"tokenizer.model", big("\x0a"), ""},
		{"merges.txt", text, ""},
		{"vocab.tiktoken", text, ""},
		{"preview.png", big("\x89PNG"), ""},
		{"LICENSE", []byte("MIT"), ""},
		{"small.unknown", []byte("\x00\x01"), ""},
		{".gitattributes", []byte("*.bin filter=lfs"), ""},
		{"pytorch_model.bin", nil, "pickle"},
		{"pytorch_model-00001-of-00002.bin", []byte("?"), "pickle"},
		{"training_args.bin", []byte("PK\x03\x04"), "pickle"},
		{"sub/optimizer.pt", nil, "pickle"},
		{"Model.PTH", nil, "pickle"},
		{"x.ckpt", nil, "pickle"},
		{"data", []byte("\x80\x04\x95"), "pickle"},
		{"archive.dat", []byte("PK\x03\x04....archive/data.pkl"), "pickle"},
		{"model.gguf", nil, "weights"},
		{"renamed", []byte("GGUF\x03"), "weights"},
		{"model.onnx", nil, "weights"},
		{"model.onnx_data", nil, "weights"},
		{"tf_model.h5", nil, "weights"},
		{"flax_model.msgpack", nil, "weights"},
		{"openvino_model.bin", []byte("\x01\x02\x03\x04"), "weights"},
		{"consolidated.safetensors", nil, "weights"},
		{"original/x.safetensors", nil, "weights"},
		{"hidden.dat", append([]byte{40, 0, 0, 0, 0, 0, 0, 0}, `{"a":{}}`...), "weights"},
		{"onnx/layers.0.weight", big("\x01"), "weights"},
		{"model.ckpt.data-00000-of-00001", big("\x01"), "weights"},
		{"all.tar.gz", nil, "weights"},
	} {
		f := classify(tt.name, int64(len(tt.content)), func() []byte { return tt.content[:min(len(tt.content), headSize)] })
		got := ""
		if f.Pickle {
			got += "pickle"
		}
		if f.Weights {
			got += "weights"
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestWalkLeavesOut(t *testing.T) {
	dir := makeFolder(t)
	put(t, dir, ".git/config", nil)
	put(t, dir, ".cache/huggingface/x", nil)
	put(t, dir, ".cache/other", nil)
	put(t, dir, "sub/.git/y", nil)
	var got []string
	for _, f := range open(t, dir).OtherFiles() {
		got = append(got, f.Path)
	}
	if len(got) != 6 || got[0] != ".cache/other" {
		t.Errorf("%v", got)
	}
}
