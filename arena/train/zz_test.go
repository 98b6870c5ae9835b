package train

import "testing"

func TestZZ(t *testing.T) {
	g, _ := openModel(t, "../../arch/testdata/rwkv", 512)
	if _, err := Compile(g, Options{Batch: 2, Trainable: Trainable{Kind: Full}}); err != nil {
		t.Fatal(err)
	}
}
