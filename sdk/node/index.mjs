import ChurnPredictor from './index.js';

export default ChurnPredictor;
export const { ChurnPredictorError } = ChurnPredictor;
export { ChurnPredictor };
