import ChurnPredictor = require('./index.js');

export default ChurnPredictor;
export import ChurnPredictorError = ChurnPredictor.ChurnPredictorError;
export { ChurnPredictor };
