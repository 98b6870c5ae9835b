package report

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"testing"
)

func chart(t *testing.T, in []Input) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := PNG(&b, in); err != nil {
		t.Fatal(err)
	}
	if dir := os.Getenv("REPORT_SHOTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, t.Name()+".png"), b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func pixels(t *testing.T, raw []byte) image.Image {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if b := img.Bounds(); b.Dx() != 1600 || b.Dy() != 1000 {
		t.Fatalf("the chart is %v", b)
	}
	return img
}

// counted counts the pixels of a colour within a box.
func counted(img image.Image, c color.Color, r image.Rectangle) int {
	n := 0
	want := color.RGBAModel.Convert(c)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			if color.RGBAModel.Convert(img.At(x, y)) == want {
				n++
			}
		}
	}
	return n
}

func TestPNGSameBytes(t *testing.T) {
	if !bytes.Equal(chart(t, one()), chart(t, one())) {
		t.Error("the same run gave two charts")
	}
}

// TestPNGColours: blue is the normal model and red the sealed one, in every
// panel and in no other.
func TestPNGColours(t *testing.T) {
	in := one()
	img := pixels(t, chart(t, in))
	whole := image.Rect(0, 140, pngSplit-20, 900)
	if b, r := counted(img, blue, whole), counted(img, red, whole); b < 3000 || r < 3000 {
		t.Errorf("%d blue and %d red pixels", b, r)
	}
	for i := range in[0].Summary.Recipes {
		in[0].Summary.Recipes[i].BestTrial = "" // no sealed curve
	}
	img = pixels(t, chart(t, in))
	if b, r := counted(img, blue, whole), counted(img, red, whole); b < 3000 || r != 0 {
		t.Errorf("without sealed curves: %d blue and %d red pixels", b, r)
	}
}

// TestPNGHeight: a lower loss is drawn lower.
func TestPNGHeight(t *testing.T) {
	a := axes{plot: box{0, 100, 500, 300}, last: 10, lo: 1, hi: 8}
	if p, q := a.at(dot{0, 8}), a.at(dot{10, 1}); p != (point{0, 100}) || q != (point{500, 400}) {
		t.Errorf("corners at %v and %v", p, q)
	}
	if p := a.at(dot{5, 80}); p.y != 100 {
		t.Errorf("a loss beyond the axis is drawn at %v", p)
	}
}

func TestPNGManyRuns(t *testing.T) {
	in := several()
	in = append(in, in...)
	pixels(t, chart(t, in))
}

func TestPNGManyRecipes(t *testing.T) { pixels(t, chart(t, many(60))) }

func TestPNGHostile(t *testing.T) { pixels(t, chart(t, hostile())) }

func TestPNGSeedOnly(t *testing.T) {
	pixels(t, chart(t, []Input{sample(sampleRecipes[:1], "static 100", 1)}))
}

func TestNice(t *testing.T) {
	for _, c := range []struct {
		lo, hi float64
		want   []float64
	}{{0, 150, []float64{0, 50, 100, 150}}, {1.57, 8, []float64{2, 4, 6, 8}}, {0, 1, []float64{0, 0.5, 1}}, {-1, 1, []float64{-1, -0.5, 0, 0.5, 1}}} {
		got := nice(c.lo, c.hi, 4)
		if len(got) != len(c.want) {
			t.Errorf("%v to %v: %v", c.lo, c.hi, got)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] || 1/got[i] < 0 && got[i] == 0 {
				t.Errorf("%v to %v: %v", c.lo, c.hi, got)
			}
		}
	}
}
