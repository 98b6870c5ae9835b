package arch

// others are the builders of state space models, encoders and the rest.
var others = map[string]family{
	"mamba":        {mamba},
	"falcon_mamba": {mamba},
	"mamba2":       {mamba2},
	"jamba":        {jamba},
	"rwkv":         {rwkv},
	"bamba":        {bamba},
	"nemotron_h":   {nemotronH},

	"bert":        {bert},
	"roberta":     {roberta},
	"xlm-roberta": {roberta},
	"distilbert":  {distilbert},
	"modernbert":  {modernbert},

	"t5":      {t5},
	"bart":    {bart},
	"mbart":   {mbart},
	"marian":  {marian},
	"whisper": {whisper},

	"vit":                 {vit},
	"dinov2":              {dinov2},
	"clip":                {clip},
	"clip_text_model":     {clipText},
	"clip_vision_model":   {clipVision},
	"siglip":              {siglip},
	"siglip_text_model":   {siglipText},
	"siglip_vision_model": {siglipVision},
}

// translators are the families whose config may say is_encoder_decoder.
var translators = map[string]bool{"t5": true, "bart": true, "mbart": true, "marian": true, "whisper": true}
